"""Segmentation from a few strokes: heads on frozen voxel embeddings."""
