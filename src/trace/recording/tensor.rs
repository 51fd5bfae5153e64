//! Tensors as they are handed over.

use safetensors::Dtype;

/// A tensor in memory, row-major, little-endian.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Of a parameter or buffer: its name in the model, `0.weight`. Of an input: `inputs`, or `inputs.NAME` of several. That of targets
    /// does not matter.
    pub name: &'a str,
    pub dtype: Dtype,
    pub shape: &'a [usize],
    pub bytes: &'a [u8],
}

impl<'a> Tensor<'a> {
    /// The bytes of a row of a tensor of `rows` rows.
    pub(super) fn row(&self, at: usize, rows: usize) -> &'a [u8] {
        let size = self.bytes.len() / rows;
        &self.bytes[at * size..(at + 1) * size]
    }

    /// Fails unless the bytes are those of the shape.
    fn check(&self) -> Result<(), String> {
        let Self { name, dtype, shape, bytes } = self;
        let bits = dtype.bitsize();
        let size = shape.iter().try_fold(1usize, |size, side| size.checked_mul(*side));
        let needed = size.and_then(|size| size.checked_mul(bits)).map(|bits| bits / 8);
        match () {
            () if bits % 8 != 0 => Err(format!("\"{name}\" is {dtype:?}, a type that is not recorded")),
            () if needed != Some(bytes.len()) => {
                Err(format!("\"{name}\" is {dtype:?} of shape {shape:?}, but has {} bytes", bytes.len()))
            }
            () => Ok(()),
        }
    }
}

/// Checks each tensor of a round by itself.
pub(super) fn check(
    batch: usize,
    inputs: &[Tensor],
    targets: Option<&Tensor>,
    state: &[Tensor],
    buffers: &[Tensor],
) -> Result<(), String> {
    if batch == 0 {
        return Err("its minibatch is empty".to_owned());
    }
    let named = |tensor: &Tensor| match inputs.len() {
        1 => tensor.name == "inputs" || tensor.name.starts_with("inputs."),
        _ => tensor.name.len() > "inputs.".len() && tensor.name.starts_with("inputs."),
    };
    if inputs.is_empty() || !inputs.iter().all(named) {
        let names: Vec<&str> = inputs.iter().map(|tensor| tensor.name).collect();
        return Err(format!("inputs are named {names:?}; the name is inputs, of several inputs inputs.NAME"));
    }
    distinct(inputs)?;
    for tensor in inputs.iter().chain(targets) {
        tensor.check()?;
        if tensor.shape.first() != Some(&batch) {
            let (name, shape) = (tensor.name, tensor.shape);
            return Err(format!("\"{name}\" has shape {shape:?}, but the minibatch has {batch} datapoints"));
        }
    }
    check_state(state)?;
    distinct(buffers)?;
    buffers.iter().try_for_each(Tensor::check)
}

/// Checks the parameters of a state.
pub(super) fn check_state(state: &[Tensor]) -> Result<(), String> {
    if state.is_empty() {
        return Err("it has no parameters".to_owned());
    }
    distinct(state)?;
    state.iter().try_for_each(|tensor| match tensor.dtype {
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 => tensor.check(),
        other => Err(format!("parameter \"{}\" is {other:?}; parameters are F64, F32, F16 or BF16", tensor.name)),
    })
}

fn distinct(tensors: &[Tensor]) -> Result<(), String> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("there are two tensors \"{}\"", pair[0])),
        None => Ok(()),
    }
}
