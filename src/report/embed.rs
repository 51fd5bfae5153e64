//! The tables behind the figures, embedded in the page so that it can be mailed alone.
//!
//! They stand in one JSON object from link to text. What is too large is left out: its link then says the size, and
//! of a table with rows for every neuron the other rows are embedded.

use super::figure::Figure;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// A table of more bytes is not embedded,
const MOST_EACH: usize = 400 << 10;
/// nor is one beyond this sum of bytes, counted from the smallest table on.
const MOST_TOGETHER: usize = 1400 << 10;
/// Behind the link of a table, for its rows without those of neurons.
pub const EXCERPT: &str = "#without-neurons";

/// The embedded tables of one page.
#[derive(Clone, Debug, Default)]
pub struct Embedded {
    texts: BTreeMap<String, String>,
    /// Sizes in bytes of the tables that only lie next to the page.
    beside: BTreeMap<String, u64>,
}

impl Embedded {
    /// The tables that `figures` link to, as seen from the folder of the page.
    ///
    /// A table that cannot be read is not an error: its link stays as it is.
    pub fn of(figures: &[Figure], folder: &Path) -> Embedded {
        let links: BTreeSet<&String> = figures.iter().flat_map(|figure| &figure.sources).collect();
        let read = |link: &&String| Some(((*link).clone(), fs::read_to_string(folder.join(link)).ok()?));
        Embedded::choose(links.iter().filter_map(read).collect())
    }

    fn choose(mut tables: Vec<(String, String)>) -> Embedded {
        let mut embedded = Embedded::default();
        for (link, text) in tables.iter().filter(|(_, text)| text.len() > MOST_EACH) {
            embedded.beside.insert(link.clone(), text.len() as u64);
        }
        for (link, text) in &mut tables {
            if text.len() > MOST_EACH && text.starts_with("scale,") {
                *text = without_neurons(text);
                *link += EXCERPT;
            }
        }
        tables.retain(|(_, text)| text.len() <= MOST_EACH);
        tables.sort_by(|a, b| (a.1.len(), &a.0).cmp(&(b.1.len(), &b.0)));
        let mut sum = 0;
        for (link, text) in tables {
            sum += text.len();
            if sum <= MOST_TOGETHER {
                embedded.texts.insert(link, text);
            } else if !link.ends_with(EXCERPT) {
                embedded.beside.insert(link, text.len() as u64);
            }
        }
        embedded
    }

    /// The size of a table that is not in the page, in words; empty if it is, or if there is none.
    pub fn size_beside(&self, link: &str) -> String {
        self.beside.get(link).map_or(String::new(), |&bytes| match bytes >> 10 {
            kibibytes if kibibytes < 1024 => format!("{kibibytes} KiB"),
            _ => format!("{:.1} MiB", bytes as f64 / 1048576.0),
        })
    }

    /// Whether the rows above neuron scale of a table that lies next to the page are in it.
    pub fn has_excerpt(&self, link: &str) -> bool {
        self.texts.contains_key(&format!("{link}{EXCERPT}"))
    }

    /// JSON that can stand in a script element and in XML: no `<`, `>` or `&` is left.
    pub fn json(&self) -> String {
        let json = serde_json::to_string(&self.texts).expect("texts can be written");
        json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
    }
}

fn without_neurons(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("neuron,")).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_tables_are_left_out_but_for_their_rows_above_neuron_scale() {
        let row = "neuron,0,0,ball\n".repeat(MOST_EACH / 16);
        let large = format!("scale,layer,neuron,comparator\nnetwork,,,ball\n{row}");
        let embedded = Embedded::choose(vec![
            ("sgd/regret.csv".into(), large),
            ("sgd/rounds.csv".into(), "round,loss\n1,2\n".into()),
            ("sgd/other.csv".into(), "x".repeat(MOST_EACH + 1)),
        ]);
        assert_eq!(embedded.size_beside("sgd/regret.csv"), "400 KiB");
        assert_eq!(embedded.size_beside("sgd/rounds.csv"), "");
        assert!(embedded.has_excerpt("sgd/regret.csv") && !embedded.has_excerpt("sgd/other.csv"));
        assert_eq!(
            embedded.json(),
            "{\"sgd/regret.csv#without-neurons\":\"scale,layer,neuron,comparator\\nnetwork,,,ball\\n\",\
             \"sgd/rounds.csv\":\"round,loss\\n1,2\\n\"}"
        );
    }

    #[test]
    fn many_tables_stop_at_a_sum() {
        let tables = (0..9).map(|i| (format!("{i}/units.csv"), "y".repeat(MOST_EACH - i))).collect();
        let embedded = Embedded::choose(tables);
        let fitting = MOST_TOGETHER / MOST_EACH;
        assert_eq!((embedded.texts.len(), embedded.beside.len()), (fitting, 9 - fitting));
    }

    #[test]
    fn text_cannot_end_the_element_it_stands_in() {
        let text = "</script><script>alert(1)</script><!-- &amp;";
        let embedded = Embedded::choose(vec![(format!("{text}/rounds.csv"), text.into())]);
        let json = embedded.json();
        assert!(!json.contains(['<', '>', '&']), "{json}");
        let back: BTreeMap<String, String> = serde_json::from_str(&json).unwrap();
        assert_eq!(back[&format!("{text}/rounds.csv")], text);
    }
}
