"""First proposals by rule, from the meshes and textures of both faces."""
