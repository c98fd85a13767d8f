"""Commands that measure ftrack: accuracy, speed, memory, and other engines on the same images."""
