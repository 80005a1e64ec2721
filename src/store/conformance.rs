//! x
macro_rules! conforms {
    ($e:expr) => {};
}
pub(super) use conforms;
