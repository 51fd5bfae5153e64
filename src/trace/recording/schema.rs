//! Whether the tensors of a round fit those of the rounds before.

use super::{
    shard::{Column, Columns},
    tensor::Tensor,
};
use safetensors::Dtype;

/// A tensor of which there is one for each row or round.
#[derive(Clone, Debug, PartialEq)]
struct Kind {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Kind {
    fn of(tensor: &Tensor) -> Self {
        Self { name: tensor.name.to_owned(), dtype: tensor.dtype, shape: tensor.shape.to_vec() }
    }

    /// Without the axis of the rows.
    fn of_rows(tensor: &Tensor) -> Self {
        Self { shape: tensor.shape[1..].to_vec(), ..Self::of(tensor) }
    }

    fn fits(&self, tensor: &Tensor, shape: &[usize]) -> Result<(), String> {
        let Self { name, dtype, shape: known } = self;
        if tensor.name != name {
            return Err(format!("\"{}\" stands where \"{name}\" did in the rounds before", tensor.name));
        }
        if tensor.dtype != *dtype || shape != known {
            let (now, of) = (tensor.dtype, "of the rounds before");
            return Err(format!("\"{name}\" is {now:?} of shape {shape:?}, but {dtype:?} of shape {known:?} {of}"));
        }
        Ok(())
    }
}

/// What all rounds have in common.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    inputs: Vec<Kind>,
    targets: Option<Kind>,
    state: Vec<Kind>,
    buffers: Vec<Kind>,
}

impl Schema {
    /// That of tensors that were checked.
    pub fn of(inputs: &[Tensor], targets: Option<&Tensor>, state: &[Tensor], buffers: &[Tensor]) -> Self {
        let targets = targets.map(|tensor| Kind { name: "targets".to_owned(), ..Kind::of_rows(tensor) });
        Self {
            inputs: inputs.iter().map(Kind::of_rows).collect(),
            targets,
            state: state.iter().map(Kind::of).collect(),
            buffers: buffers.iter().map(Kind::of).collect(),
        }
    }

    /// Fails unless a round fits those before.
    pub fn check(
        &self,
        inputs: &[Tensor],
        targets: Option<&Tensor>,
        state: &[Tensor],
        buffers: &[Tensor],
    ) -> Result<(), String> {
        all_fit("inputs", &self.inputs, inputs, |tensor| &tensor.shape[1..])?;
        let targets = targets.map(|tensor| Tensor { name: "targets", ..*tensor });
        let known: Vec<Kind> = self.targets.iter().cloned().collect();
        all_fit("targets", &known, targets.as_slice(), |tensor| &tensor.shape[1..])?;
        self.check_state(state)?;
        all_fit("buffers", &self.buffers, buffers, |tensor| tensor.shape)
    }

    pub fn check_state(&self, state: &[Tensor]) -> Result<(), String> {
        all_fit("parameters", &self.state, state, |tensor| tensor.shape)
    }

    /// Those of a shard without rounds.
    pub fn columns(&self) -> Columns {
        let column = |prefix: &'static str| {
            move |kind: &Kind| Column::new(format!("{prefix}{}", kind.name), kind.dtype, kind.shape.clone())
        };
        Columns {
            data: self.inputs.iter().chain(&self.targets).map(column("")).collect(),
            states: self.state.iter().map(column("state.")).chain(self.buffers.iter().map(column("buffer."))).collect(),
        }
    }
}

fn all_fit<'a>(
    what: &str,
    known: &[Kind],
    found: &'a [Tensor<'a>],
    shape: impl Fn(&Tensor<'a>) -> &'a [usize],
) -> Result<(), String> {
    if known.len() != found.len() {
        return Err(format!("it has {} {what}, the rounds before have {}", found.len(), known.len()));
    }
    known.iter().zip(found).try_for_each(|(kind, tensor)| kind.fits(tensor, shape(tensor)))
}
