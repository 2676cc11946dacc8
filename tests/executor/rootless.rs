//! The same as an ordinary user.
