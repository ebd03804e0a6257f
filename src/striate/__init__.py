"""striate: convolutional networks that classify images, from a folder of pictures to an understood classifier."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
