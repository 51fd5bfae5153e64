//! Weights: initialization, and safetensors files with PyTorch's names.

use super::{
    Network,
    file_layout::{bias_name, file_order, weight_name},
    tensor_names::{Mismatch, TensorNames, list},
};
use crate::num::Real;
use half::{bf16, f16};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// He-uniform weights and zero biases: `W ~ U(-sqrt(6/fan_in), sqrt(6/fan_in))` (He et al. 2015).
///
/// Block `l` draws from stream `l` of ChaCha8 seeded with `seed`, so a layer's weights depend only on the seed, its
/// place and its shape. Drawn in `f64` and rounded, so `f32` weights are the rounded `f64` ones.
pub fn he_uniform<T: Real>(network: &Network, seed: u64) -> Vec<T> {
    let mut weights = vec![T::ZERO; network.parameters()];
    for (l, block) in network.blocks().iter().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(l as u64);
        for row in weights[block.range()].chunks_exact_mut(block.width()) {
            for w in &mut row[..block.inputs] {
                *w = T::from_f64(block.initial(2.0 * rng.random::<f64>() - 1.0));
            }
        }
    }
    weights
}

/// A weights file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {path}: {source}; free some space or choose another folder")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a safetensors file: {reason}; save it again with safetensors.torch.save_file")]
    Malformed { path: PathBuf, reason: String },
    #[error("{path} has no tensor \"{name}\", {reason}")]
    Missing { path: PathBuf, name: String, reason: String },
    #[error("{path}: tensor \"{name}\" {reason}")]
    Shape { path: PathBuf, name: String, reason: String },
    #[error("{path}: tensor \"{name}\" has type {found}; save it as float32, float64, float16 or bfloat16")]
    Type { path: PathBuf, name: String, found: String },
    #[error("{path}: no layer of the network uses {names}; leave them out of the file, or complete the layer list")]
    Unused { path: PathBuf, names: String },
    #[error("{path}: tensor \"{name}\" holds a value that is not finite at position {index}; take weights from before")]
    NotFinite { path: PathBuf, name: String, index: usize },
}

/// Reads `"{layer}.weight"`, `[units, inputs]` or `[maps, channels, kernel, kernel]`, and `"{layer}.bias"` `[units]`, unless it has no
/// bias, of every layer with weights, or what [`TensorNames`] finds in their place.
///
/// # Errors
/// If the file cannot be read, has other tensors than the network, or values that are not finite.
pub fn read_weights<T: Real>(network: &Network, path: &Path) -> Result<Vec<T>, WeightsError> {
    let bytes = std::fs::read(path).map_err(|source| WeightsError::Read { path: path.into(), source })?;
    decode_weights(network, path, &bytes)
}

/// The same from the bytes of a safetensors file; `path` names them in errors.
///
/// # Errors
/// As [`read_weights`].
pub fn decode_weights<T: Real>(network: &Network, path: &Path, bytes: &[u8]) -> Result<Vec<T>, WeightsError> {
    let tensors = SafeTensors::deserialize(bytes)
        .map_err(|e| WeightsError::Malformed { path: path.into(), reason: e.to_string() })?;
    let names = find_names(network, path, &tensors)?;
    if !names.unused.is_empty() {
        return Err(WeightsError::Unused { path: path.into(), names: list(&names.unused) });
    }
    let mut states = stack_named(network, path, &tensors, &names, None)?;
    let state = states.pop().unwrap_or_default();
    check_finite::<T>(network, path, &tensors, &names, &state)?;
    Ok(state)
}

/// Which tensors of a file are the network's.
pub fn find_names(network: &Network, path: &Path, tensors: &SafeTensors) -> Result<TensorNames, WeightsError> {
    TensorNames::find(network, tensors).map_err(|Mismatch { name, reason }| match tensors.tensor(&name) {
        Ok(_) => WeightsError::Shape { path: path.into(), name, reason },
        Err(_) => WeightsError::Missing { path: path.into(), name, reason },
    })
}

/// Decodes the weight states of a safetensors file into flat vectors.
///
/// With `states = Some(s)` each tensor has a leading axis of length `s`; with `None` there is one state and no axis.
pub fn stack_states<T: Real>(
    network: &Network,
    path: &Path,
    tensors: &SafeTensors,
    states: Option<usize>,
) -> Result<Vec<Vec<T>>, WeightsError> {
    stack_named(network, path, tensors, &find_names(network, path, tensors)?, states)
}

/// The same from tensors in memory, whose names are known.
pub fn stack_tensors<T: Real>(
    network: &Network,
    path: &Path,
    tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)],
    names: &TensorNames,
    states: Option<usize>,
) -> Result<Vec<Vec<T>>, WeightsError> {
    let fail = |e: safetensors::SafeTensorError| WeightsError::Malformed { path: path.into(), reason: e.to_string() };
    let views: Result<Vec<(&str, TensorView)>, _> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| TensorView::new(*dtype, shape.clone(), bytes).map(|view| (*name, view)))
        .collect();
    let file = safetensors::serialize(views.map_err(fail)?, None).map_err(fail)?;
    stack_named(network, path, &SafeTensors::deserialize(&file).map_err(fail)?, names, states)
}

/// The same with names that are known. Values need not be finite.
pub fn stack_named<T: Real>(
    network: &Network,
    path: &Path,
    tensors: &SafeTensors,
    names: &TensorNames,
    states: Option<usize>,
) -> Result<Vec<Vec<T>>, WeightsError> {
    let leading: Vec<usize> = states.into_iter().collect();
    let shape = |tail: &[usize]| [&leading, tail].concat();
    // The network may be one that the file does not bear out: no memory for its weights before they are known to be there.
    let mut found = Vec::with_capacity(network.blocks().len());
    for (block, names) in network.blocks().iter().zip(&names.blocks) {
        let matrix = tensor(path, tensors, &names.weight, &shape(&block.file_shape()))?;
        let bias = names.bias.as_ref().map(|name| tensor(path, tensors, name, &shape(&[block.units])));
        found.push((matrix, bias.transpose()?));
    }
    let mut out = vec![vec![T::ZERO; network.parameters()]; states.unwrap_or(1)];
    for ((block, names), (matrix, bias)) in network.blocks().iter().zip(&names.blocks).zip(&found) {
        let (width, inputs) = (block.width(), block.inputs);
        let matrix: Vec<T> = values(path, &names.weight, matrix)?;
        let name = names.bias.as_deref().unwrap_or_default();
        let bias: Vec<T> = bias.as_ref().map_or(Ok(Vec::new()), |bias| values(path, name, bias))?;
        for (s, state) in out.iter_mut().enumerate() {
            let target = &mut state[block.range()];
            for (u, row) in target.chunks_exact_mut(width).enumerate() {
                let start = (s * block.units + u) * inputs;
                let stored = &matrix[start..start + inputs];
                row.iter_mut().zip(file_order(block)).for_each(|(w, at)| *w = stored[at]);
                row[inputs..].iter_mut().for_each(|b| *b = bias[s * block.units + u]);
            }
        }
    }
    Ok(out)
}

/// Fails with the place of a value that is not finite.
fn check_finite<T: Real>(
    network: &Network,
    path: &Path,
    tensors: &SafeTensors,
    names: &TensorNames,
    state: &[T],
) -> Result<(), WeightsError> {
    let Some(at) = state.iter().position(|w| !w.is_finite()) else { return Ok(()) };
    let of = network.blocks().iter().zip(&names.blocks).find(|(block, _)| block.range().contains(&at));
    for name in of.into_iter().flat_map(|(_, names)| names.all()) {
        let view =
            tensors.tensor(name).map_err(|e| WeightsError::Malformed { path: path.into(), reason: e.to_string() })?;
        if let Some(index) = values::<T>(path, name, &view)?.iter().position(|w| !w.is_finite()) {
            return Err(WeightsError::NotFinite { path: path.into(), name: name.clone(), index });
        }
    }
    Ok(())
}

/// The tensor of that name, if it has the shape that it must have.
fn tensor<'a>(
    path: &Path,
    tensors: &SafeTensors<'a>,
    name: &str,
    expected: &[usize],
) -> Result<TensorView<'a>, WeightsError> {
    let tensor = tensors.tensor(name).map_err(|_| WeightsError::Missing {
        path: path.into(),
        name: name.into(),
        reason: format!("only {}", list(&tensors.names())),
    })?;
    if tensor.shape() != expected {
        let reason = format!("has shape {:?}, but the network needs {expected:?}", tensor.shape());
        return Err(WeightsError::Shape { path: path.into(), name: name.into(), reason });
    }
    Ok(tensor)
}

/// The values of a tensor; half precision is widened, which is exact.
fn values<T: Real>(path: &Path, name: &str, tensor: &TensorView) -> Result<Vec<T>, WeightsError> {
    let data = tensor.data();
    Ok(match tensor.dtype() {
        Dtype::F32 => data.as_chunks().0.iter().map(|b| T::from_f64(f64::from(f32::from_le_bytes(*b)))).collect(),
        Dtype::F64 => data.as_chunks().0.iter().map(|b| T::from_f64(f64::from_le_bytes(*b))).collect(),
        Dtype::F16 => data.as_chunks().0.iter().map(|b| T::from_f64(f16::from_le_bytes(*b).to_f64())).collect(),
        Dtype::BF16 => data.as_chunks().0.iter().map(|b| T::from_f64(bf16::from_le_bytes(*b).to_f64())).collect(),
        other => {
            return Err(WeightsError::Type { path: path.into(), name: name.into(), found: format!("{other:?}") });
        }
    })
}

/// Encodes weight states as safetensors bytes, with a leading axis if `stacked`.
pub fn encode_states<T: Real>(network: &Network, states: &[&[T]], stacked: bool) -> Result<Vec<u8>, String> {
    let dtype = if T::NAME == "f32" { Dtype::F32 } else { Dtype::F64 };
    let mut buffers: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let push = |bytes: &mut Vec<u8>, v: T| match dtype {
        Dtype::F32 => bytes.extend_from_slice(&(v.to_f64() as f32).to_le_bytes()),
        _ => bytes.extend_from_slice(&v.to_f64().to_le_bytes()),
    };
    let leading = if stacked { vec![states.len()] } else { vec![] };
    for block in network.blocks() {
        let (mut matrix, mut bias) = (Vec::new(), Vec::new());
        let mut stored = vec![T::ZERO; block.inputs];
        for state in states {
            for row in state[block.range()].chunks_exact(block.width()) {
                row.iter().zip(file_order(block)).for_each(|(w, at)| stored[at] = *w);
                stored.iter().for_each(|v| push(&mut matrix, *v));
                row[block.inputs..].iter().for_each(|b| push(&mut bias, *b));
            }
        }
        buffers.push((weight_name(block), [leading.clone(), block.file_shape()].concat(), matrix));
        if block.bias {
            buffers.push((bias_name(block), [leading.clone(), vec![block.units]].concat(), bias));
        }
    }
    let views: Result<BTreeMap<&str, TensorView>, _> = buffers
        .iter()
        .map(|(name, shape, bytes)| TensorView::new(dtype, shape.clone(), bytes).map(|view| (name.as_str(), view)))
        .collect();
    views.and_then(|views| safetensors::serialize(views, None)).map_err(|e| e.to_string())
}

/// Writes one weight state as a safetensors file that PyTorch's `load_state_dict` of the same layers accepts.
pub fn write_weights<T: Real>(network: &Network, weights: &[T], path: &Path) -> Result<(), WeightsError> {
    let fail = |source| WeightsError::Write { path: path.into(), source };
    let bytes = encode_states(network, &[weights], false).map_err(|e| fail(std::io::Error::other(e)))?;
    crate::files::write_atomically(path, &bytes).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Image, LayerSpec};

    #[test]
    fn weights_survive_a_file_and_lie_in_he_bounds() {
        let network = Network::new(6, &[LayerSpec::dense(4), LayerSpec::dense(2)]).unwrap();
        let weights: Vec<f32> = he_uniform(&network, 9);
        for (i, w) in weights[..28].iter().enumerate() {
            assert!(w.abs() <= 1.0 && (i % 7 != 6 || *w == 0.0));
        }
        assert_ne!(weights[..28], he_uniform::<f32>(&network, 10)[..28]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        write_weights(&network, &weights, &path).unwrap();
        assert_eq!(read_weights::<f32>(&network, &path).unwrap(), weights);
        let wider = Network::new(6, &[LayerSpec::dense(5), LayerSpec::dense(2)]).unwrap();
        let error = read_weights::<f32>(&wider, &path).unwrap_err().to_string();
        assert!(error.contains("0.weight") && error.contains("[4, 6]") && error.contains("[5, 6]"), "{error}");
    }

    #[test]
    fn a_layer_without_bias_has_no_tensor_of_biases() {
        let dense = [LayerSpec::dense(4), LayerSpec::dense(2)];
        let image = Image { channels: 3, height: 3, width: 2 };
        let conv = LayerSpec::Conv { maps: 2, kernel: 2, padding: 0, stride: 1, bias: false };
        let both = [conv, LayerSpec::Flatten, LayerSpec::dense(2)];
        let networks = [
            Network::new(6, &[dense[0].without_bias(), dense[1]]).unwrap(),
            Network::new(6, &[dense[0], dense[1].without_bias()]).unwrap(),
            Network::new(image, &both).unwrap(),
        ];
        for (network, (without, with)) in
            networks.iter().zip([("0.bias", "1.bias"), ("1.bias", "0.bias"), ("0.bias", "2.bias")])
        {
            let weights: Vec<Vec<f64>> =
                (0..3).map(|s| (0..network.parameters()).map(|i| (i + s) as f64 + 0.5).collect()).collect();
            let states: Vec<&[f64]> = weights.iter().map(Vec::as_slice).collect();
            let bytes = encode_states(network, &states, true).unwrap();
            let tensors = SafeTensors::deserialize(&bytes).unwrap();
            assert!(tensors.tensor(without).is_err() && tensors.tensor(with).is_ok());
            assert_eq!(stack_states::<f64>(network, Path::new("memory"), &tensors, Some(3)).unwrap(), weights);
        }
        // Only the matrices are drawn, as with biases.
        let (with, without) = (Network::new(6, &dense).unwrap(), &networks[0]);
        let (all, some): (Vec<f64>, Vec<f64>) = (he_uniform(&with, 9), he_uniform(without, 9));
        assert!(all[..28].chunks(7).zip(some[..24].chunks(6)).all(|(a, b)| a[..6] == *b));
        assert_eq!(all[28..], some[24..]);
    }

    /// Reads the file of a network with other layers.
    fn read_as(layers: &[LayerSpec], of: &Network, weights: &[f32]) -> Result<Vec<f32>, WeightsError> {
        let bytes = encode_states(of, &[weights], false).unwrap();
        let network = Network::new(of.input(), layers).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        stack_states(&network, Path::new("w.safetensors"), &tensors, None).map(|mut states| states.remove(0))
    }

    #[test]
    fn files_that_say_otherwise_about_biases_are_refused_unless_they_have_zeros() {
        let layers = [LayerSpec::dense(4), LayerSpec::dense(2)];
        let without = layers.map(LayerSpec::without_bias);
        let network = Network::new(6, &layers).unwrap();
        let mut weights: Vec<f32> = he_uniform(&network, 3);
        let rows = weights[..28].chunks(7).map(|row| &row[..6]).chain(weights[28..].chunks(5).map(|row| &row[..4]));
        assert_eq!(read_as(&without, &network, &weights).unwrap(), rows.collect::<Vec<_>>().concat());
        weights[6] = -0.0;
        assert!(read_as(&without, &network, &weights).is_ok());
        weights[37] = 1e-30;
        let error = read_as(&without, &network, &weights).unwrap_err().to_string();
        assert!(error.contains("\"1.bias\" has values other than 0, but layer 1 has no bias"), "{error}");
        let smaller = Network::new(6, &without).unwrap();
        let error = read_as(&layers, &smaller, &he_uniform(&smaller, 3)).unwrap_err().to_string();
        assert!(error.contains("no tensor \"0.bias\"") && error.contains("1.weight"), "{error}");
        assert!(error.contains(r#"{ "dense": { "units": 4, "bias": false } }"#), "{error}");
        assert!(error.contains("{ dense = { units = 4, bias = false } }"), "{error}");
        let conv = LayerSpec::Conv { maps: 2, kernel: 2, padding: 0, stride: 1, bias: true };
        let image = Image { channels: 3, height: 3, width: 2 };
        let layers = [conv, LayerSpec::Flatten, LayerSpec::dense(2)];
        let smaller = Network::new(image, &layers.map(LayerSpec::without_bias)).unwrap();
        let error = read_as(&layers, &smaller, &he_uniform(&smaller, 3)).unwrap_err().to_string();
        assert!(error.contains("{ conv = { maps = 2, ..., bias = false } }"), "{error}");
    }

    #[test]
    fn files_have_pytorchs_order_of_axes() {
        let layers = [
            LayerSpec::Conv { maps: 2, kernel: 2, padding: 0, stride: 1, bias: true },
            LayerSpec::Flatten,
            LayerSpec::dense(2),
        ];
        let network = Network::new(Image { channels: 3, height: 3, width: 2 }, &layers).unwrap();
        let weights: Vec<f64> = (0..network.parameters()).map(|i| i as f64).collect();
        let bytes = encode_states(&network, &[&weights], false).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let conv = tensors.tensor("0.weight").unwrap();
        assert_eq!(conv.shape(), [2, 3, 2, 2]);
        let at =
            |tensor: &TensorView, i: usize| f64::from_le_bytes(tensor.data()[8 * i..8 * i + 8].try_into().unwrap());
        // Filter 1, channel 2, kernel row 1, kernel column 0; here rows are [kernel row, kernel column, channel, bias].
        assert_eq!(at(&conv, ((3 + 2) * 2 + 1) * 2), weights[13 + 2 * 3 + 2]);
        // The convolution's output is 2x2x1: unit 1, channel 1, row 0.
        let dense = tensors.tensor("2.weight").unwrap();
        assert_eq!(dense.shape(), [2, 4]);
        assert_eq!(at(&dense, 4 + 2), weights[26 + 5 + 1]);
        let back: Vec<Vec<f64>> = stack_states(&network, Path::new("memory"), &tensors, None).unwrap();
        assert_eq!(back[0], weights);
    }
}
