"""The bundled clip, its reference picture and the main job on them."""
