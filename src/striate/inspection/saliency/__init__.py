"""Saliency: which pixels of a picture an answer rests on. One method, one file, one paper."""
