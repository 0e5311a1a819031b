"""Where images come from: class folders, tables of labels, file names, ImageNet, CIFAR, MNIST, Parquet, the demo."""
