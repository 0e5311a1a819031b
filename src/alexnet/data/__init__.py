"""Files on disk -> packed shards -> uint8 batches -> network input.

Where to look:

  DATA on the command line    open.py: a packed folder, a URL (remote.py), or anything else (sources/), which is packed
  folders and class names     layout.py and sources/folders.py; ImageNet's names: imagenet_classes.py
  decoding                    images.py, the only decoder
  rescaling, central square   square.py
  packing                     packing.py; its journal: journal.py; images that cannot be decoded: quarantine.py
  the packed folder           manifest.py describes it, shards.py writes it, packed.py reads it
  batches                     loader.py, in the order of order.py
  crops, mean, augmentation   preprocessing.py and augmentation.py
"""
