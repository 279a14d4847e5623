//! The `ring` room.
