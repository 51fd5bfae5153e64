//! Which tensors of a file are a network's: under PyTorch's names, behind the prefixes of wrappers, or under the names of a module's
//! attributes where the shapes leave no choice.

use super::{Block, Network, file_layout::weight_name};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;

/// The names of a network's tensors in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorNames {
    pub blocks: Vec<BlockNames>,
    /// How they were found, if not under their own names: a sentence.
    pub note: Option<String>,
    /// Tensors that no layer uses, in natural order.
    pub unused: Vec<String>,
}

/// The names of a block's tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockNames {
    pub weight: String,
    /// `None` for a layer without bias.
    pub bias: Option<String>,
}

impl BlockNames {
    /// Those of a module, which may stand for this block.
    fn of(block: &Block, module: &str) -> Self {
        Self { weight: format!("{module}.weight"), bias: block.bias.then(|| format!("{module}.bias")) }
    }

    /// Both, or the one that there is.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.weight).chain(&self.bias)
    }
}

/// Shapes of a file's tensors by name.
type Shapes<'a> = BTreeMap<&'a str, &'a [usize]>;

/// Why a file's tensors are not the network's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The tensor that is missing or wrong.
    pub name: String,
    /// What is wrong and what to do.
    pub reason: String,
}

impl TensorNames {
    /// Finds the tensors of `network`, with or without a leading axis of states.
    ///
    /// # Errors
    /// If one is missing or has another shape.
    pub fn find(network: &Network, tensors: &SafeTensors) -> Result<Self, Mismatch> {
        let views = tensors.tensors();
        let shapes = views.iter().map(|(name, view)| (name.as_str(), view.shape())).collect();
        Self::find_by(network, &shapes, &|name| {
            tensors.tensor(name).is_ok_and(|view| is_zero(view.dtype(), view.data()))
        })
    }

    /// The same by the shapes of a file's tensors alone; `is_zero` says of one that it has whether all of its values are 0.
    ///
    /// # Errors
    /// As [`TensorNames::find`].
    pub fn find_by(
        network: &Network,
        shapes: &BTreeMap<&str, &[usize]>,
        is_zero: &dyn Fn(&str) -> bool,
    ) -> Result<Self, Mismatch> {
        let (blocks, note) =
            named(network, shapes).or_else(|| by_shape(network, shapes)).ok_or_else(|| missing(network, shapes))?;
        network.blocks().iter().zip(&blocks).try_for_each(|(block, names)| check_shapes(block, names, shapes))?;
        let mut used: Vec<String> = blocks.iter().flat_map(BlockNames::all).cloned().collect();
        for (block, names) in network.blocks().iter().zip(&blocks).filter(|(block, _)| !block.bias) {
            used.extend(zero_bias(block, layer(&names.weight), shapes, is_zero)?);
        }
        let unused = in_order(shapes).into_iter().map(str::to_owned).filter(|name| !used.contains(name)).collect();
        Ok(Self { blocks, note, unused })
    }
}

/// Whether all values of a tensor are 0 or -0, which have no bits but a sign, the first of the last byte.
pub fn is_zero(dtype: Dtype, data: &[u8]) -> bool {
    let size = dtype.bitsize().div_ceil(8).max(1);
    let is_zero = |value: &[u8]| value.iter().rev().enumerate().all(|(at, byte)| byte & !(u8::from(at == 0) << 7) == 0);
    data.chunks(size).all(is_zero)
}

/// The tensor of biases that a file may have for a layer without bias, if all are 0.
fn zero_bias(
    block: &Block,
    module: &str,
    shapes: &Shapes,
    is_zero: &dyn Fn(&str) -> bool,
) -> Result<Option<String>, Mismatch> {
    let name = format!("{module}.bias");
    if !shapes.contains_key(name.as_str()) {
        return Ok(None);
    }
    if is_zero(&name) {
        return Ok(Some(name));
    }
    let reason = format!(
        "has values other than 0, but layer {} has no bias by the layer list; leave \"bias\": false out there",
        block.layer
    );
    Err(Mismatch { name, reason })
}

type Found = (Vec<BlockNames>, Option<String>);

/// The index of a block's layer, by which PyTorch calls it.
fn number(block: &Block) -> String {
    block.layer.to_string()
}

/// The expected names as they are, or behind one prefix.
fn named(network: &Network, shapes: &Shapes) -> Option<Found> {
    let first = format!("{}.weight", number(network.blocks().first()?));
    let prefixes = shapes.keys().filter_map(|name| name.strip_suffix(&first));
    let with = |prefix: &str| -> Vec<BlockNames> {
        network.blocks().iter().map(|block| BlockNames::of(block, &format!("{prefix}{}", number(block)))).collect()
    };
    let whole = |prefix: &&str| {
        let stands_alone = prefix.is_empty() || prefix.ends_with('.');
        stands_alone && with(prefix).iter().flat_map(BlockNames::all).all(|name| shapes.contains_key(name.as_str()))
    };
    let mut fitting = prefixes.filter(whole);
    let prefix = fitting.next()?;
    // The name itself comes before those behind prefixes; of several prefixes none is the right one.
    if !prefix.is_empty() && fitting.next().is_some() {
        return None;
    }
    let note = (!prefix.is_empty()).then(|| format!("tensors are named without their prefix \"{prefix}\""));
    Some((with(prefix), note))
}

/// What stands before `.weight` and `.bias`.
fn modules<'a>(shapes: &Shapes<'a>) -> Vec<&'a str> {
    let mut modules: Vec<&str> = shapes.keys().filter_map(|name| name.strip_suffix(".weight")).collect();
    modules.sort_by(|a, b| natural(a, b));
    modules
}

/// Whether a module is counted and not named, as those of `nn.Sequential` are: its place says what stands before it.
fn is_counted(module: &str) -> bool {
    module.rsplit('.').next().is_some_and(|last| last.parse::<usize>().is_ok())
}

/// Whether a module's tensors have the shapes of a block's.
fn fits(block: &Block, module: &str, shapes: &Shapes) -> bool {
    let tail = |name: String, expected: &[usize]| {
        shapes.get(name.as_str()).is_some_and(|shape| without_states(shape, expected.len()) == Some(expected))
    };
    let bias = format!("{module}.bias");
    tail(format!("{module}.weight"), &block.file_shape()) && (!block.bias || tail(bias, &[block.units]))
}

/// A shape without its axis of states, if the number of its other axes is right.
fn without_states(shape: &[usize], axes: usize) -> Option<&[usize]> {
    match shape.len() {
        len if len == axes => Some(shape),
        len if len == axes + 1 => Some(&shape[1..]),
        _ => None,
    }
}

/// Modules under names of their own, where the shapes fit in one way only.
fn by_shape(network: &Network, shapes: &Shapes) -> Option<Found> {
    let modules = modules(shapes);
    let mut pairs = Vec::new();
    for block in network.blocks() {
        let mut fitting = modules.iter().filter(|module| fits(block, module, shapes));
        let (Some(module), None) = (fitting.next(), fitting.next()) else { return None };
        pairs.push((block, *module));
    }
    let distinct = pairs.iter().enumerate().all(|(at, pair)| !pairs[..at].iter().any(|other| other.1 == pair.1));
    if !distinct || !counts_agree(&pairs) {
        return None;
    }
    let list: Vec<String> = pairs.iter().map(|(block, module)| format!("{} = {module}", number(block))).collect();
    let note = format!("layers are found by their shapes: {}", list.join(", "));
    Some((pairs.iter().map(|(block, module)| BlockNames::of(block, module)).collect(), Some(note)))
}

/// Whether modules that are counted (`encoder.0`, `encoder.2`, `decoder.0`) are as far from each other as the layers that they stand
/// for, or follow each other as in a list of layers with weights alone. Otherwise a layer between them is not in the list.
fn counts_agree(pairs: &[(&Block, &str)]) -> bool {
    let place = |module: &str| -> Option<(String, usize)> {
        let (parent, last) = module.rsplit_once('.').unwrap_or(("", module));
        Some((parent.to_owned(), last.parse().ok()?))
    };
    let steps: Vec<(usize, usize)> = pairs
        .windows(2)
        .filter_map(|two| {
            let (a, b) = (place(two[0].1)?, place(two[1].1)?);
            (a.0 == b.0).then(|| (b.1.wrapping_sub(a.1), two[1].0.layer - two[0].0.layer))
        })
        .collect();
    steps.iter().all(|(found, layers)| found == layers) || steps.iter().all(|(found, _)| *found == 1)
}

/// `0` of `0.weight`.
fn layer(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(layer, _)| layer)
}

/// What to say of names that are not there.
fn missing(network: &Network, shapes: &Shapes) -> Mismatch {
    let modules = modules(shapes);
    let blocks = network.blocks();
    let prefix = modules
        .iter()
        .find_map(|module| module.strip_suffix(&number(&blocks[0])))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        .filter(|prefix| modules.iter().all(|module| module.starts_with(prefix)))
        .unwrap_or_default();
    let expected = |block: &Block| BlockNames::of(block, &format!("{prefix}{}", number(block)));
    let lacks = |name: &&String| !shapes.contains_key(name.as_str());
    let absent = |block| Some((block, expected(block).all().find(lacks)?.clone()));
    let (block, name) = blocks.iter().find_map(absent).unwrap_or((&blocks[0], weight_name(&blocks[0])));
    let found = list(&in_order(shapes));
    let taken: Vec<String> = blocks.iter().map(|block| format!("{prefix}{}", number(block))).collect();
    let shifted = modules
        .iter()
        .filter(|module| is_counted(module) && module.starts_with(prefix) && !taken.contains(&(**module).to_owned()))
        .find(|module| fits(block, module, shapes));
    let several: Vec<&str> = modules
        .iter()
        .filter_map(|module| module.strip_suffix(&number(&blocks[0])))
        .filter(|prefix| {
            prefix.ends_with('.')
                && blocks.iter().all(|block| fits(block, &format!("{prefix}{}", number(block)), shapes))
        })
        .collect();
    let derived = shapes.keys().find(|name| {
        [".weight_g", ".weight_v", ".weight_orig"].iter().any(|end| name.ends_with(end))
            || name.contains(".parametrizations.")
    });
    let reason = if several.len() > 1 {
        format!("but it fits behind each of {}: two networks are in the file; leave out all but one", list(&several))
    } else if let Some(derived) = derived {
        format!(
            "but \"{derived}\", from which a weight or spectral normalization computes it: save the weights that are multiplied \
             with, module.weight of each layer"
        )
    } else if let Some(module) = shifted {
        let is_normalized = |module: &&&str| shapes.contains_key(format!("{module}.running_mean").as_str());
        let between = modules.iter().find(is_normalized);
        let between = between.map_or(String::new(), |module| format!(" (\"{module}\" is a batch normalization)"));
        format!(
            "but \"{module}\" has its shapes: a layer before it is not in the list{between}. Layers that change nothing at \
             evaluation, like dropout, are left out and the others counted anew: rename \"{module}\" to \"{}\"; others \
             cannot be analysed",
            layer(&name)
        )
    } else if shapes.contains_key(expected(block).weight.as_str()) {
        let (kind, size, units) = match block.convolution() {
            None => ("dense", "units", block.units.to_string()),
            Some(_) => ("conv", "maps", format!("{}, ...", block.units)),
        };
        format!(
            "only its weights. If layer {} has no bias, its entry in the layer list must say so: \
             {{ \"{kind}\": {{ \"{size}\": {units}, \"bias\": false }} }} in a manifest, {{ {kind} = {{ {size} = {units}, bias = \
             false }} }} in an experiment file. There are {found}",
            block.layer
        )
    } else {
        let example = number(&blocks[0]);
        format!(
            "and no other names fit the shapes in one way only; name the tensors after their layers, \"{example}.weight\", \
             \"{example}.bias\", counting every layer from 0 as nn.Sequential does. There are {found}"
        )
    };
    Mismatch { name, reason }
}

/// Compares a block's tensors with the shapes that they must have.
fn check_shapes(block: &Block, names: &BlockNames, shapes: &Shapes) -> Result<(), Mismatch> {
    for (name, expected) in names.all().zip([block.file_shape(), vec![block.units]]) {
        let found = shapes[name.as_str()];
        let tail = without_states(found, expected.len());
        if tail == Some(&expected[..]) {
            continue;
        }
        let states = if found.len() == expected.len() + 1 { "states, " } else { "" };
        let list = expected.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let mut reason = format!("has shape {found:?}, but the network needs [{states}{list}]");
        if let Some(tail) = tail {
            reason += hint(&expected, tail);
        }
        return Err(Mismatch { name: name.clone(), reason });
    }
    Ok(())
}

/// What a shape looks like instead.
fn hint(expected: &[usize], found: &[usize]) -> &'static str {
    match (expected, found) {
        ([units, inputs], [a, b]) if (a, b) == (inputs, units) => {
            ": it is transposed, as JAX and Keras keep kernels; save numpy.swapaxes(w, -1, -2)"
        }
        ([maps, channels, k, _], [a, b, c, d]) if (a, b, c, d) == (k, k, channels, maps) => {
            ": its axes are those of JAX and Keras; save numpy.moveaxis(w, (-1, -2), (-4, -3))"
        }
        ([maps, _, k, _], [a, b, c, d]) if (a, c, d) == (maps, k, k) && *b < 64 => {
            ": the number of channels differs; \"input\" is [channels, height, width]"
        }
        _ => "; check the layer list",
    }
}

/// Names in the order in which people count.
fn in_order<'a>(shapes: &Shapes<'a>) -> Vec<&'a str> {
    let mut names: Vec<&str> = shapes.keys().copied().collect();
    names.sort_by(|a, b| natural(a, b));
    names
}

/// Compares names by their parts, numbers by value.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let key = |name: &str| -> Vec<(usize, String)> {
        name.split('.').map(|part| (part.parse().unwrap_or(usize::MAX), part.to_owned())).collect()
    };
    // A matrix comes before its bias.
    let rank = |name: &str| usize::from(!name.ends_with(".weight"));
    let stem = |name: &str| key(name.rsplit_once('.').map_or(name, |(stem, _)| stem));
    (stem(a), rank(a), a).cmp(&(stem(b), rank(b), b))
}

/// Names in quotes, not all of too many.
pub fn list<S: AsRef<str>>(names: &[S]) -> String {
    const SHOWN: usize = 12;
    let mut texts: Vec<String> = names.iter().take(SHOWN).map(|name| format!("\"{}\"", name.as_ref())).collect();
    if names.len() > SHOWN {
        texts.push(format!("... ({} in all)", names.len()));
    }
    if texts.is_empty() { "no tensors".to_owned() } else { texts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Image, LayerSpec, Rectifier};
    use safetensors::tensor::TensorView;

    const RELU: LayerSpec = LayerSpec::Rectifier(Rectifier::Relu);

    fn network(units: &[usize]) -> Network {
        let layers: Vec<LayerSpec> = units.iter().flat_map(|units| [RELU, LayerSpec::dense(*units)]).skip(1).collect();
        Network::new(5, &layers).unwrap()
    }

    fn find(network: &Network, tensors: &[(&str, &[usize])]) -> Result<TensorNames, Mismatch> {
        let zeros = vec![0u8; 1 << 14];
        let view = |shape: &[usize]| {
            TensorView::new(Dtype::F32, shape.to_vec(), &zeros[..4 * shape.iter().product::<usize>()]).unwrap()
        };
        let bytes = safetensors::serialize(tensors.iter().map(|(name, shape)| (*name, view(shape))), None).unwrap();
        TensorNames::find(network, &SafeTensors::deserialize(&bytes).unwrap())
    }

    fn dense<'a>(names: &'a [(String, String)], sizes: &'a [[usize; 2]]) -> Vec<(&'a str, Vec<usize>)> {
        let pair = |((w, b), [units, inputs]): (&'a (String, String), &'a [usize; 2])| {
            [(w.as_str(), vec![*units, *inputs]), (b.as_str(), vec![*units])]
        };
        names.iter().zip(sizes).flat_map(pair).collect()
    }

    fn modules_of(network: &Network, modules: &[&str], sizes: &[[usize; 2]]) -> Result<TensorNames, Mismatch> {
        let names: Vec<(String, String)> =
            modules.iter().map(|m| (format!("{m}.weight"), format!("{m}.bias"))).collect();
        let tensors = dense(&names, sizes);
        let tensors: Vec<(&str, &[usize])> = tensors.iter().map(|(name, shape)| (*name, &shape[..])).collect();
        find(network, &tensors)
    }

    fn named(module: &str) -> BlockNames {
        BlockNames { weight: format!("{module}.weight"), bias: Some(format!("{module}.bias")) }
    }

    #[test]
    fn prefixes_of_wrappers_are_taken_off() {
        let network = network(&[4, 3]);
        for prefix in ["", "module.", "_orig_mod.", "model.net.", "_orig_mod.module."] {
            let modules = [format!("{prefix}0"), format!("{prefix}2")];
            let modules = modules.each_ref().map(String::as_str);
            let names = modules_of(&network, &modules, &[[4, 5], [3, 4]]).unwrap();
            assert_eq!(names.blocks[1], named(&format!("{prefix}2")));
            assert_eq!(names.note.is_some_and(|note| note.contains(prefix)), !prefix.is_empty());
        }
        // Two networks in one file: neither is it.
        let both = ["a.0", "a.2", "b.0", "b.2"];
        modules_of(&network, &both, &[[4, 5], [3, 4], [4, 5], [3, 4]]).unwrap_err();
        // The one under its own names is, and the rest is not used.
        let averaged = ["0", "2", "ema.0", "ema.2"];
        let names = modules_of(&network, &averaged, &[[4, 5], [3, 4], [4, 5], [3, 4]]).unwrap();
        assert_eq!(names.unused, ["ema.0.weight", "ema.0.bias", "ema.2.weight", "ema.2.bias"]);
    }

    #[test]
    fn attributes_are_found_where_the_shapes_leave_no_choice() {
        let names = modules_of(&network(&[4, 3]), &["out", "fc1"], &[[3, 4], [4, 5]]).unwrap();
        assert_eq!(names.blocks, [named("fc1"), named("out")]);
        let note = names.note.unwrap();
        assert!(note.contains("0 = fc1") && note.contains("2 = out"), "{note}");
        let twice = modules_of(&network(&[5, 5]), &["a", "b"], &[[5, 5], [5, 5]]).unwrap_err();
        assert!(twice.reason.contains("one way only") && twice.name == "0.weight", "{twice:?}");
        assert!(twice.reason.contains("\"a.weight\", \"a.bias\", \"b.weight\""), "{twice:?}");
    }

    #[test]
    fn counted_modules_are_found_where_their_places_agree() {
        let network = network(&[4, 3, 2]);
        let sizes = [[4, 5], [3, 4], [2, 3]];
        for modules in [
            ["encoder.0", "encoder.2", "decoder.0"],
            ["encoder.0", "decoder.0", "decoder.2"],
            ["layers.0", "layers.1", "layers.2"],
            ["0.0", "0.2", "1"],
            ["features.0", "classifier.1", "classifier.3"],
        ] {
            let names = modules_of(&network, &modules, &sizes).unwrap();
            assert_eq!(names.blocks[2], named(modules[2]));
            assert!(names.note.is_some_and(|note| note.contains(&format!("4 = {}", modules[2]))));
        }
        // A layer more stands between.
        modules_of(&network, &["encoder.0", "encoder.3", "decoder.0"], &sizes).unwrap_err();
    }

    #[test]
    fn files_of_several_networks_and_of_reparametrizations_say_so() {
        let two = modules_of(&network(&[4]), &["model.0", "ema.0"], &[[4, 5], [4, 5]]).unwrap_err();
        assert!(two.reason.contains("two networks") && two.reason.contains("\"ema.\", \"model.\""), "{two:?}");
        let error =
            find(&network(&[4]), &[("0.weight_g", &[4, 1]), ("0.weight_v", &[4, 5]), ("0.bias", &[4])]).unwrap_err();
        assert!(error.reason.contains("normalization computes it"), "{error:?}");
    }

    #[test]
    fn a_gap_in_the_count_is_a_layer_that_is_not_modelled() {
        let network = network(&[4, 3]);
        for prefix in ["", "net."] {
            let modules = [format!("{prefix}0"), format!("{prefix}3")];
            let error = modules_of(&network, &modules.each_ref().map(String::as_str), &[[4, 5], [3, 4]]).unwrap_err();
            assert!(error.name == format!("{prefix}2.weight") && error.reason.contains("dropout"), "{error:?}");
            assert!(error.reason.contains(&format!("rename \"{prefix}3\"")), "{error:?}");
        }
        let error = find(
            &network,
            &[
                ("0.weight", &[4, 5]),
                ("0.bias", &[4]),
                ("1.weight", &[4]),
                ("1.bias", &[4]),
                ("1.running_mean", &[4]),
                ("3.weight", &[3, 4]),
                ("3.bias", &[3]),
            ],
        )
        .unwrap_err();
        assert!(error.reason.contains("\"1\" is a batch normalization"), "{error:?}");
    }

    #[test]
    fn axes_in_another_order_are_named() {
        let dense = network(&[4]);
        let error = find(&dense, &[("0.weight", &[7, 5, 4]), ("0.bias", &[7, 4])]).unwrap_err();
        assert!(error.reason.contains("transposed") && error.reason.contains("[states, 4, 5]"), "{error:?}");
        let error = find(&dense, &[("0.weight", &[4, 6]), ("0.bias", &[4])]).unwrap_err();
        assert!(error.reason.contains("check the layer list"), "{error:?}");
        let layers = [
            LayerSpec::Conv { maps: 2, kernel: 3, padding: 0, stride: 1, bias: true },
            LayerSpec::Flatten,
            LayerSpec::dense(1),
        ];
        let spatial = Network::new(Image { channels: 5, height: 3, width: 3 }, &layers).unwrap();
        let rest = [("0.bias", &[2][..]), ("2.weight", &[1, 2]), ("2.bias", &[1])];
        let with = |shape: &'static [usize]| find(&spatial, &[&[("0.weight", shape)][..], &rest].concat());
        assert!(with(&[2, 5, 3, 3]).is_ok());
        assert!(with(&[3, 3, 5, 2]).unwrap_err().reason.contains("moveaxis"));
        assert!(with(&[2, 3, 3, 3]).unwrap_err().reason.contains("[channels, height, width]"));
    }

    #[test]
    fn names_are_listed_as_people_count() {
        let shapes: Shapes = ["10.weight", "2.bias", "2.weight", "0.weight", "fc.bias"]
            .into_iter()
            .map(|name| (name, &[][..]))
            .collect();
        assert_eq!(in_order(&shapes), ["0.weight", "2.weight", "2.bias", "10.weight", "fc.bias"]);
        let many: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        assert!(list(&many).ends_with("... (20 in all)"));
    }
}
