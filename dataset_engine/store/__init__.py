"""The engine's memory: identities, images, pairs, proposals and the events of people's reviews."""

from dataset_engine.store.blobs import BlobError, decode_mask_png, encode_mask_png, read_rgb
from dataset_engine.store.database import Store

__all__ = ["BlobError", "Store", "decode_mask_png", "encode_mask_png", "read_rgb"]
