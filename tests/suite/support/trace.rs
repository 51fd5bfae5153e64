//! Files of traces, to be made and damaged.

use npyz::WriterBuilder;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::{collections::BTreeMap, fs, path::Path};

/// A safetensors file, to be damaged.
#[derive(Clone)]
pub struct Tensors(pub BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    pub fn parse(bytes: &[u8]) -> Self {
        let tensors = SafeTensors::deserialize(bytes).unwrap();
        let all = tensors.iter().map(|(n, t)| (n.to_owned(), (t.dtype(), t.shape().to_vec(), t.data().to_vec())));
        Self(all.collect())
    }

    pub fn map(mut self, change: impl Fn(&str, Vec<usize>, Vec<u8>) -> (Vec<usize>, Vec<u8>)) -> Self {
        for (name, (_, shape, data)) in &mut self.0 {
            (*shape, *data) = change(name, std::mem::take(shape), std::mem::take(data));
        }
        self
    }

    pub fn map_one(self, one: &str, change: impl Fn(Vec<usize>, Vec<u8>) -> (Vec<usize>, Vec<u8>)) -> Self {
        assert!(self.0.contains_key(one), "no tensor {one}");
        self.map(|name, shape, data| if name == one { change(shape, data) } else { (shape, data) })
    }

    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name).expect("the tensor is there");
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut views = Vec::new();
        for (name, (dtype, shape, data)) in &self.0 {
            views.push((name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
        }
        safetensors::serialize(views, None).unwrap()
    }
}

/// Writes a `.npy` file; `values` are in the order of the file.
pub fn write_array<V: npyz::AutoSerialize>(path: &Path, shape: &[u64], order: npyz::Order, values: Vec<V>) {
    let mut bytes = Vec::new();
    let mut writer =
        npyz::WriteOptions::new().default_dtype().shape(shape).order(order).writer(&mut bytes).begin_nd().unwrap();
    writer.extend(values).unwrap();
    writer.finish().unwrap();
    fs::write(path, bytes).unwrap();
}

pub fn read_array<V: npyz::Deserialize>(path: &Path) -> Vec<V> {
    npyz::NpyFile::new(&fs::read(path).unwrap()[..]).unwrap().into_vec().unwrap()
}
