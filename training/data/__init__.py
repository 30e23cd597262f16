"""What training and evaluation read: MNIST, folders of images, other sources."""
