//! Rows of the data by their contents: each is stored where it appears first.

use super::{hash::Hash, shard::Shard, tensor::Tensor};
use std::collections::HashMap;

/// Rows that are remembered; of larger data sets, rows are stored again once these are forgotten.
const REMEMBERED: usize = 1 << 24;

/// The rows that were seen.
#[derive(Debug, Default)]
pub(super) struct Rows {
    known: HashMap<u128, u32>,
    /// Rows in all shards.
    count: usize,
}

impl Rows {
    /// Fails if so many more rows could not be numbered.
    pub fn admit(&self, batch: usize) -> Result<(), String> {
        match self.count.checked_add(batch).is_some_and(|count| u32::try_from(count).is_ok()) {
            true => Ok(()),
            false => Err("the trace would hold more than 2^32 rows of data; record fewer rounds with every".to_owned()),
        }
    }

    /// Numbers the rows of a minibatch, and hands those that are new to the shard.
    pub fn take(&mut self, batch: usize, inputs: &[Tensor], targets: Option<&Tensor>, shard: &mut Shard) {
        for at in 0..batch {
            let parts = || inputs.iter().chain(targets).map(|tensor| tensor.row(at, batch));
            let mut hash = Hash::new();
            parts().for_each(|bytes| hash.update(bytes));
            if self.known.len() >= REMEMBERED {
                self.known.clear();
            }
            let number = *self.known.entry(hash.finish()).or_insert_with(|| {
                shard.push_row(parts());
                self.count += 1;
                (self.count - 1) as u32
            });
            shard.rows.push(i64::from(number));
        }
    }
}
