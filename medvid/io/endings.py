"""Endings of the names of volumes, arrays, videos and pictures, in lower case."""

NIFTI = (".nii", ".nii.gz")
NRRD = (".nrrd", ".nhdr")
META_IMAGE = (".mha", ".mhd")
ARRAYS = (".npy", ".npz")
VIDEOS = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")

VOXEL_FILES = (".raw", ".zraw")
"""Belong to an .mhd or .nhdr header beside them."""

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")
"""Single pictures are no stack; a folder of nothing else is one."""

BESIDE_SLICES = (
    *(*PICTURES, *NIFTI, *NRRD, *META_IMAGE, *ARRAYS, *VOXEL_FILES),
    *(".hdr", ".img", ".mat"),
)
"""Key images, masks and segmentations, as they lie beside the slices of a series."""
