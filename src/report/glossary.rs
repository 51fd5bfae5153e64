//! The ten words of the page, and the links that lead to them from headings of tables and from captions.

use super::draw::svg::escape;

/// A word with its meaning.
pub struct Term {
    /// Its anchor is `term-ID`.
    pub id: &'static str,
    pub name: &'static str,
    pub meaning: &'static str,
    /// The forms in which captions use it, in lower case, the longest first.
    forms: &'static [&'static str],
}

pub const TERMS: [Term; 10] = [
    Term {
        id: "round",
        name: "round",
        meaning: "One step of training: one minibatch, one update of the weights.",
        forms: &["rounds", "round"],
    },
    Term {
        id: "minibatch-loss",
        name: "minibatch loss",
        meaning: "The loss of a round on its minibatch, before the update. The mean loss is its mean over the analysed \
                  rounds; it is the sum of Taylor optimum and regret.",
        forms: &["minibatch losses", "minibatch loss", "mean loss"],
    },
    Term {
        id: "prefix",
        name: "prefix",
        meaning: "The first N rounds. A curve over N shows a result for every prefix, each with its own best weights.",
        forms: &["prefixes", "prefix"],
    },
    Term {
        id: "comparator",
        name: "comparator",
        meaning: "Fixed weights, the best in hindsight, that training is compared with. The ball comparator is chosen \
                  within a ball around the initial weights whose radius is a multiple (by default twice) of the \
                  displacement of training. The unconstrained comparator may lie anywhere.",
        forms: &["comparators", "comparator"],
    },
    Term {
        id: "taylor-optimum",
        name: "Taylor optimum",
        meaning: "The least mean loss that fixed weights could have paid if the network of each round is replaced by \
                  its linearization (Taylor approximation) in the weights. It measures how good the regions are that \
                  training visited.",
        forms: &["taylor optima", "taylor optimum"],
    },
    Term {
        id: "regret",
        name: "regret",
        meaning: "Mean loss minus Taylor optimum: what training paid beyond the best fixed weights, in the same \
                  regions. It is negative where moving weights beat every fixed comparator.",
        forms: &["regrets", "regret"],
    },
    Term {
        id: "gap",
        name: "gap",
        meaning: "The certified error of a Taylor optimum: the true one lies in [optimum − gap, optimum], so the true \
                  regret lies in [regret, regret + gap]. The page gives these intervals, rounded outwards; a single \
                  number means that both ends agree to its digits.",
        forms: &["gaps", "gap", "certificates", "certificate", "certified"],
    },
    Term {
        id: "displacement",
        name: "displacement",
        meaning: "The largest distance of the weights from their initial values during training. The distance of a \
                  comparator is measured from the same place. A comparator more than ten times farther than training \
                  went is marked far: it says little about what training could have reached.",
        forms: &["displacements", "displacement"],
    },
    Term {
        id: "novelty",
        name: "novelty",
        meaning: "The number of bits in which a recorded activation configuration differs from the nearest earlier \
                  one.",
        forms: &["novelty"],
    },
    Term {
        id: "configuration",
        name: "activation configuration",
        meaning: "Which hidden neurons are active for which datapoints of the probe set: one bit for each pair. A \
                  switch is a bit that changes from one recorded configuration to the next; a neuron is dead \
                  if its rectifier has slope 0 for the whole probe set at the end, as a ReLU without active bits has.",
        forms: &["activation configurations", "activation configuration", "configurations", "configuration"],
    },
];

/// Parts of headings and the terms that they lead to; the first that fits is taken.
const HEADINGS: [(&str, &str); 12] = [
    ("optimum", "taylor-optimum"),
    ("regret", "regret"),
    ("displacement", "displacement"),
    ("distance", "displacement"),
    ("novelty", "novelty"),
    ("switches", "configuration"),
    ("dead", "configuration"),
    ("gap", "gap"),
    ("comparator", "comparator"),
    ("mean loss", "minibatch-loss"),
    ("rounds", "round"),
    ("prefixes", "prefix"),
];

/// The anchor of the term that a heading of a table speaks of; empty without one.
pub fn of_heading(heading: &str) -> &'static str {
    HEADINGS.iter().find(|(part, _)| heading.contains(part)).map_or("", |(_, id)| id)
}

/// `text` as HTML, with the first use of each term linked to its meaning.
pub fn linked(text: &str) -> String {
    // Only ASCII changes its case here, so places in the two texts agree.
    let lower = text.to_ascii_lowercase();
    let mut uses: Vec<(usize, usize, &str)> = Vec::new();
    for term in &TERMS {
        let found = term.forms.iter().filter_map(|form| find_word(&lower, form).map(|at| (at, at + form.len())));
        // The earliest use; of forms that begin there, the longest.
        uses.extend(found.min_by_key(|(at, end)| (*at, usize::MAX - end)).map(|(at, end)| (at, end, term.id)));
    }
    uses.sort_unstable();
    let (mut html, mut done) = (String::with_capacity(2 * text.len()), 0);
    for (at, end, id) in uses {
        if at < done {
            continue;
        }
        html += &escape(&text[done..at]);
        html += &format!(r##"<a class="term" href="#term-{id}">{}</a>"##, escape(&text[at..end]));
        done = end;
    }
    html + &escape(&text[done..])
}

/// The first place of `word` in `text` with no letter or digit at either side, names of files left out.
fn find_word(text: &str, word: &str) -> Option<usize> {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-');
    text.match_indices(word).map(|(at, _)| at).find(|&at| {
        let rest = &text[at + word.len()..];
        !part(text[..at].chars().next_back()) && !part(rest.chars().next()) && !rest.starts_with(".csv")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_use_of_a_term_is_linked_and_the_rest_is_escaped() {
        assert_eq!(
            linked("Regret & <b>: regret of Taylor optima"),
            "<a class=\"term\" href=\"#term-regret\">Regret</a> &amp; &lt;b&gt;: regret of \
             <a class=\"term\" href=\"#term-taylor-optimum\">Taylor optima</a>"
        );
        assert_eq!(linked("regretful, background"), "regretful, background");
        assert_eq!(linked("units.csv, regret.csv"), "units.csv, regret.csv");
    }

    #[test]
    fn headings_lead_to_terms_that_exist() {
        for (_, id) in HEADINGS {
            assert!(TERMS.iter().any(|term| term.id == id), "{id}");
        }
        assert_eq!(of_heading("regret / loss"), "regret");
        assert_eq!(of_heading("unit"), "");
    }
}
