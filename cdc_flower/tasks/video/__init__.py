"""Video tasks on rendered clips of moving digits, on MSVD, and on annotated folders of features."""
