"""From facts and contracts to exact lines. Pure: frames in, frames out."""
