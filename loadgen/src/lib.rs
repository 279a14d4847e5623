//! The `loadgen` room.
