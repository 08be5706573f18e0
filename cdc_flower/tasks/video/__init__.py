"""Video streams: rendered clips of moving digits, MSVD, and annotation files with folders of features."""
