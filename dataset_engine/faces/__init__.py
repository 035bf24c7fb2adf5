"""From a photograph to an aligned face with its five points, its face region and its quality."""
