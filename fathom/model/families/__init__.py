"""Published architectures and file formats, to and from ours."""
