//! What a manifest tells of the optimizer.

use crate::{
    optim,
    study::tables::is_off,
    trace::{
        Manifest,
        motion::{Findings, three},
    },
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The optimizer as the manifest tells it, for labels and bounds; it is never run.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::study) struct Told {
    pub name: Option<String>,
    pub learning_rate: Option<f64>,
    /// All other keys.
    pub settings: BTreeMap<String, Value>,
}

impl Told {
    pub fn by(manifest: &Manifest) -> Self {
        Self::of(&manifest.optimizer)
    }

    /// By what a manifest has under `optimizer`.
    pub fn of(optimizer: &Map<String, Value>) -> Self {
        let name = optimizer.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let learning_rate = optimizer.get("learning_rate").and_then(Value::as_f64);
        // PyTorch's names of classes are those of ours in capitals.
        let known = |name: &str| {
            // As in torch.optim.SGD.
            let last = name.rsplit('.').next().unwrap_or(name);
            optim::registry().find(|entry| entry.name.eq_ignore_ascii_case(last))
        };
        let others = optimizer.iter().filter(|(key, _)| match key.as_str() {
            "name" => name.is_none(),
            "learning_rate" => learning_rate.is_none(),
            _ => true,
        });
        Self {
            name: name.map(|name| known(name).map_or(name, |entry| entry.name).to_owned()),
            learning_rate,
            settings: others.map(|(key, value)| (key.clone(), value.clone())).collect(),
        }
    }

    /// The constant step of plain SGD, which alone satisfies its bound. Any other key that is not off may change the
    /// steps.
    pub fn plain_sgd(&self) -> Option<f64> {
        let plain = self.name.as_deref() == Some("sgd") && self.settings.values().all(is_off);
        self.learning_rate.filter(|rate| plain && *rate > 0.0 && rate.is_finite())
    }

    /// What to say of steps of plain SGD that the manifest calls by the name of an optimizer that never makes them.
    pub fn plain_by_another_name(&self, findings: &Findings) -> Option<String> {
        // Those that never step along the minibatch's gradient at a constant rate, but for the first round.
        const OTHERS: [&str; 8] =
            ["adam", "adamw", "rmsprop", "adagrad", "adagrad_full", "sign_sgd", "rprop", "batch_rms"];
        let name = self.name.as_deref().filter(|name| OTHERS.contains(name))?;
        let rate = findings.gradient_steps?;
        Some(format!(
            "the manifest names {name}, but all updates are steps of {} along the gradient, those of plain SGD; no claim of the \
             paper is judged by them",
            three(rate)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(optimizer: Value) -> Told {
        let manifest = json!({
            "format": 1, "input": [2], "layers": [{ "dense": 2 }], "loss": "mse", "target": "input", "rounds": 1,
            "batch_size": 1, "optimizer": optimizer
        });
        Told::by(&serde_json::from_value(manifest).unwrap())
    }

    #[test]
    fn only_plain_sgd_has_its_bound() {
        for plain in [
            json!({ "name": "sgd", "learning_rate": 0.1 }),
            json!({ "name": "SGD", "learning_rate": 0.1, "momentum": 0, "nesterov": false, "weight_decay": 0.0 }),
            json!({ "name": "sgd", "learning_rate": 0.1, "schedule": "constant", "foreach": null, "decay": "None" }),
        ] {
            assert_eq!(told(plain.clone()).plain_sgd(), Some(0.1), "{plain}");
        }
        for other in [
            json!({ "name": "sgd" }),
            json!({ "name": "sgd", "learning_rate": 0.0 }),
            json!({ "name": "sgd", "learning_rate": 0.1, "momentum": 0.9 }),
            json!({ "name": "sgd", "learning_rate": 0.1, "nesterov": true }),
            json!({ "name": "sgd", "learning_rate": 0.1, "schedule": { "step": 10 } }),
            json!({ "name": "sgd", "learning_rate": 0.1, "schedule": "cosine" }),
            json!({ "name": "adam", "learning_rate": 0.1 }),
            json!({ "learning_rate": 0.1 }),
            json!({}),
        ] {
            assert_eq!(told(other.clone()).plain_sgd(), None, "{other}");
        }
    }

    #[test]
    fn nothing_that_a_manifest_tells_is_lost_or_added() {
        let all = told(json!({ "name": "Adam", "learning_rate": 1, "betas": [0.9, 0.99], "extra": { "a": null } }));
        assert_eq!((all.name.as_deref(), all.learning_rate), (Some("adam"), Some(1.0)));
        assert_eq!(json!(all.settings), json!({ "betas": [0.9, 0.99], "extra": { "a": null } }));
        let odd = told(json!({ "name": 3, "learning_rate": "fast" }));
        assert_eq!((odd.name, odd.learning_rate), (None, None));
        assert_eq!(json!(odd.settings), json!({ "name": 3, "learning_rate": "fast" }));
    }
}
