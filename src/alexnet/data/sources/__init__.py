"""Where images come from: class folders, ILSVRC-2012, CIFAR-10, the images of the demo."""
