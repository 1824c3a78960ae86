"""Contrastive pretraining of the voxel embedding on unlabelled CT."""
