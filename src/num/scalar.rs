//! Numbers as files hold them.

/// A number with a fixed layout in files: little-endian bytes.
pub trait Scalar: Copy + Default {
    /// The name of its type in safetensors files.
    const DTYPE: &'static str;
    /// Its size in bytes.
    const BYTES: usize;
    fn put(self, bytes: &mut Vec<u8>);
    /// From exactly [`Scalar::BYTES`] bytes.
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! scalar {
    ($type:ident, $dtype:literal) => {
        impl Scalar for $type {
            const DTYPE: &'static str = $dtype;
            const BYTES: usize = size_of::<$type>();
            #[inline]
            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
            #[inline]
            fn get(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<$type>()];
                own.copy_from_slice(bytes);
                Self::from_le_bytes(own)
            }
        }
    };
}

scalar!(f32, "F32");
scalar!(f64, "F64");
scalar!(u8, "U8");
scalar!(u32, "U32");
scalar!(u64, "U64");
