//! The source's imports against ARCHITECTURE.md: nobody imports upward, and nobody goes in a circle.
//!
//! Looked at are the paths that begin with `crate`, `super`, `self` or the name of a module's own child, in `use` lines
//! and elsewhere. Code that only tests compile is left out. A folder's `mod.rs` is its head, not one of its files: it may
//! call them while they use the types that it declares. Circles are those among the files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

/// The path of a module from the root, which is empty: `["taylor", "solve", "secular"]`.
type Module = Vec<String>;

/// A file of the library with what it says about other modules.
struct Source {
    module: Module,
    path: PathBuf,
    mentions: Vec<Mention>,
}

/// A path that stands in a file.
#[derive(Clone, Debug, PartialEq)]
struct Mention {
    line: usize,
    /// From the root of the crate.
    path: Vec<String>,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// Named in the middle of code.
    Inline,
    /// Imported under this name, for the file itself.
    Use(String),
    /// Handed on under this name: the file does not need it.
    Reexport(String),
}

/// One file needs another.
#[derive(Clone, Debug)]
struct Import {
    place: String,
    name: String,
    from: Module,
    to: Module,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} takes {}", self.place, self.name)
    }
}

/// The library as its files and what they need of each other.
struct Library {
    sources: Vec<Source>,
    modules: BTreeSet<Module>,
}

impl Library {
    fn read(root: &Path) -> Library {
        let mut files = Vec::new();
        find_sources(root, root, &mut files);
        let texts: Vec<(PathBuf, Module, String, String)> = files
            .into_iter()
            .map(|path| {
                let text = fs::read_to_string(&path).unwrap();
                let module = module_of(path.strip_prefix(root).unwrap());
                let code = text::code(&text);
                (path, module, text, code)
            })
            .collect();
        let of_tests: BTreeSet<Module> =
            texts.iter().flat_map(|(_, module, text, code)| test_modules(module, text, code)).collect();
        let is_test = |module: &Module| of_tests.iter().any(|test| module.starts_with(test));
        let kept: Vec<_> = texts.into_iter().filter(|(_, module, ..)| !is_test(module)).collect();
        let modules: BTreeSet<Module> = kept.iter().map(|(_, module, ..)| module.clone()).collect();
        let sources = kept
            .into_iter()
            .map(|(path, module, _, code)| {
                let mentions = parse::mentions(&text::without_tests(&code), &module, &modules);
                Source { module, path, mentions }
            })
            .collect();
        Library { sources, modules }
    }

    /// The module with a file of its own that `path` leads into, and what of the path is left there.
    fn file_of<'a>(&self, path: &'a [String]) -> (Module, &'a [String]) {
        let length = (0..=path.len()).rev().find(|length| self.modules.contains(&path[..*length])).unwrap_or(0);
        (path[..length].to_vec(), &path[length..])
    }

    /// Where `path` leads from `from`. A folder's own files find through its `mod.rs` what that only hands on.
    fn target(&self, from: &Module, path: &[String]) -> Module {
        let mut path = path.to_vec();
        // A chain of names that are handed on is short.
        for _ in 0..8 {
            let (module, rest) = self.file_of(&path);
            if !from.starts_with(&module) {
                return module;
            }
            let handed_on = rest.first().and_then(|name| self.handed_on(&module, name));
            match handed_on {
                Some((target, length)) if !target.is_empty() => {
                    path = [target, rest[length..].to_vec()].concat();
                }
                _ => return module,
            }
        }
        self.file_of(&path).0
    }

    /// What `name` stands for in `module` where it is imported there, and how many names that replaces.
    fn handed_on(&self, module: &Module, name: &str) -> Option<(Vec<String>, usize)> {
        let source = self.sources.iter().find(|source| source.module == *module)?;
        source.mentions.iter().find_map(|mention| match &mention.kind {
            Kind::Use(alias) | Kind::Reexport(alias) if alias == name => Some((mention.path.clone(), 1)),
            _ => None,
        })
    }

    /// All imports from one file by another; those of a file's own names are left out.
    fn imports(&self) -> Vec<Import> {
        let mut imports = Vec::new();
        for source in &self.sources {
            for mention in source.mentions.iter().filter(|mention| !matches!(mention.kind, Kind::Reexport(_))) {
                let to = self.target(&source.module, &mention.path);
                if to != source.module {
                    imports.push(Import {
                        place: format!("{}:{}", source.path.display(), mention.line),
                        name: mention.path.join("::"),
                        from: source.module.clone(),
                        to,
                    });
                }
            }
        }
        imports
    }
}

fn find_sources(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            find_sources(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && path != root.join("main.rs") {
            files.push(path);
        }
    }
}

/// `taylor/mod.rs` is `["taylor"]`, `lib.rs` the root.
fn module_of(path: &Path) -> Module {
    let mut module: Module = path.with_extension("").iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    if ["mod", "lib"].contains(&module.last().unwrap().as_str()) {
        module.pop();
    }
    module
}

/// The modules with files of their own that only tests compile.
fn test_modules(module: &Module, text: &str, code: &str) -> Vec<Module> {
    let mut found = Vec::new();
    for range in text::test_items(code) {
        let words: Vec<&str> = code[range.clone()].split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
        let named = text[range.clone()].split("#[path = \"").nth(1).and_then(|rest| rest.split(".rs").next());
        let declared = words.iter().position(|word| *word == "mod").map(|at| words[at + 1]);
        if let Some(name) = declared.filter(|_| code[range.clone()].trim_end().ends_with(';')) {
            // `#[path]` names a file next to the one that declares it.
            let folder = if named.is_some() { &module[..module.len() - 1] } else { &module[..] };
            found.push([folder, &[named.unwrap_or(name).to_owned()]].concat());
        }
    }
    found
}

/// Comments, strings and tests, which say nothing about imports.
mod text {
    use std::ops::Range;

    /// `text` with comments, strings and characters blanked, byte for byte.
    pub fn code(text: &str) -> String {
        let bytes = text.as_bytes();
        let mut code = bytes.to_vec();
        let mut at = 0;
        while at < bytes.len() {
            let length = length_of_blank(bytes, at);
            let end = (at + length).min(bytes.len());
            code[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
            at = end.max(at + 1);
        }
        // What is cut at a character's border stays text.
        String::from_utf8(code).unwrap()
    }

    /// The length of the comment, string or character that begins at `at`; 0 if none does.
    fn length_of_blank(bytes: &[u8], at: usize) -> usize {
        let rest = &bytes[at..];
        let in_a_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        match rest {
            [b'/', b'/', ..] => rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => rest.windows(2).position(|two| two == b"*/").map_or(rest.len(), |end| end + 2),
            [b'r', b'#' | b'"', ..] if !in_a_word || bytes[at - 1] == b'b' => raw_string(rest),
            [b'"', ..] => {
                let mut end = 1;
                while end < rest.len() && rest[end] != b'"' {
                    end += if rest[end] == b'\\' { 2 } else { 1 };
                }
                end + 1
            }
            [b'\'', ..] => character(rest),
            _ => 0,
        }
    }

    /// The length of a raw string; 0 for a raw identifier.
    fn raw_string(rest: &[u8]) -> usize {
        let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
        if rest.get(1 + hashes) != Some(&b'"') {
            return 0;
        }
        let end = [&b"\""[..], &b"#".repeat(hashes)].concat();
        let begin = 2 + hashes;
        let found = rest[begin..].windows(end.len()).position(|part| part == end);
        found.map_or(rest.len(), |length| begin + length + end.len())
    }

    /// The length of a character in quotes; 0 for a lifetime.
    fn character(rest: &[u8]) -> usize {
        if rest.get(1) == Some(&b'\\') {
            return rest[3..].iter().position(|byte| *byte == b'\'').map_or(0, |end| end + 4);
        }
        let is_one = |end: &usize| {
            std::str::from_utf8(&rest[1..*end]).is_ok_and(|text| text.chars().count() == 1) && rest[*end] == b'\''
        };
        (2..rest.len().min(6)).find(is_one).map_or(0, |end| end + 1)
    }

    /// The items behind `#[cfg(test)]` and `#[cfg(all(test, ...))]`, attribute included.
    pub fn test_items(code: &str) -> Vec<Range<usize>> {
        let mut items: Vec<Range<usize>> = Vec::new();
        for (begin, _) in code.match_indices("#[cfg(") {
            let is_inside = items.last().is_some_and(|item| item.contains(&begin));
            let condition = &code[begin..];
            if !is_inside && ["#[cfg(test)", "#[cfg(all(test,"].iter().any(|test| condition.starts_with(test)) {
                items.push(begin..end_of_item(code, begin));
            }
        }
        items
    }

    /// Behind the semicolon or the closing brace that ends the item at `begin`.
    fn end_of_item(code: &str, begin: usize) -> usize {
        let mut depth = 0;
        for (at, byte) in code.bytes().enumerate().skip(begin) {
            match byte {
                b'{' | b'[' | b'(' => depth += 1,
                b']' | b')' => depth -= 1,
                b'}' => {
                    depth -= 1;
                    if depth == 0 {
                        return at + 1;
                    }
                }
                b';' if depth == 0 => return at + 1,
                _ => {}
            }
        }
        code.len()
    }

    pub fn without_tests(code: &str) -> String {
        let mut kept = code.as_bytes().to_vec();
        for item in test_items(code) {
            kept[item].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        }
        String::from_utf8(kept).unwrap()
    }
}

/// Paths in code.
mod parse {
    use super::{BTreeSet, Kind, Mention, Module};

    #[derive(Clone, Debug, PartialEq)]
    struct Token {
        line: usize,
        text: String,
    }

    fn tokens(code: &str) -> Vec<Token> {
        let mut tokens: Vec<Token> = Vec::new();
        for (line, text) in code.lines().enumerate() {
            let mut rest = text.trim_start();
            while let Some(first) = rest.chars().next() {
                let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                let length = match word {
                    0 if rest.starts_with("::") => 2,
                    0 => first.len_utf8(),
                    _ => word,
                };
                tokens.push(Token { line: line + 1, text: rest[..length].to_owned() });
                rest = rest[length..].trim_start();
            }
        }
        tokens
    }

    fn is_word(text: &str) -> bool {
        text.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
    }

    /// What `code`, the file of `file`, says about modules of this crate.
    pub fn mentions(code: &str, file: &Module, modules: &BTreeSet<Module>) -> Vec<Mention> {
        let mut reader =
            Reader { tokens: tokens(code), at: 0, file, modules, inline: Vec::new(), depth: 0, found: Vec::new() };
        reader.read();
        reader.found
    }

    struct Reader<'a> {
        tokens: Vec<Token>,
        at: usize,
        file: &'a Module,
        modules: &'a BTreeSet<Module>,
        /// Modules inside of the file, with the depth of their braces.
        inline: Vec<(String, usize)>,
        depth: usize,
        found: Vec<Mention>,
    }

    impl Reader<'_> {
        fn text(&self, at: usize) -> &str {
            self.tokens.get(at).map_or("", |token| &token.text)
        }

        fn read(&mut self) {
            while self.at < self.tokens.len() {
                match self.text(self.at).to_owned().as_str() {
                    "{" => self.depth += 1,
                    "}" => {
                        self.depth -= 1;
                        self.inline.retain(|(_, depth)| *depth < self.depth + 1);
                    }
                    "mod" if self.text(self.at + 2) == "{" => {
                        self.inline.push((self.text(self.at + 1).to_owned(), self.depth + 1));
                    }
                    "use" => {
                        let is_public = ["pub", ")"].contains(&self.text(self.at.wrapping_sub(1)));
                        self.at += 1;
                        self.tree(&[], is_public);
                        continue;
                    }
                    word if self.text(self.at + 1) == "::" && is_word(word) => {
                        self.inline_path();
                        continue;
                    }
                    _ => {}
                }
                self.at += 1;
            }
        }

        /// The names of a path from here on, up to what cannot go on.
        fn names(&mut self) -> Vec<String> {
            let mut names = Vec::new();
            while is_word(self.text(self.at)) {
                names.push(self.text(self.at).to_owned());
                if self.text(self.at + 1) != "::" {
                    self.at += 1;
                    break;
                }
                self.at += 2;
            }
            names
        }

        fn inline_path(&mut self) {
            let line = self.tokens[self.at].line;
            let is_continued = ["::", ".", "in"].contains(&self.text(self.at.wrapping_sub(1)));
            let names = self.names();
            if let Some(path) = self.resolved(&names).filter(|_| !is_continued) {
                self.found.push(Mention { line, path, kind: Kind::Inline });
            }
        }

        /// A branch of a `use`, up to its comma, brace or semicolon.
        fn tree(&mut self, prefix: &[String], is_public: bool) {
            let line = self.tokens[self.at].line;
            let path = [prefix, &self.names()].concat();
            match self.text(self.at).to_owned().as_str() {
                "{" => {
                    self.at += 1;
                    while self.text(self.at) != "}" {
                        self.tree(&path, is_public);
                        if self.text(self.at) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                }
                "*" => {
                    self.at += 1;
                    self.import(line, &path, "*", is_public);
                }
                "as" => {
                    let alias = self.text(self.at + 1).to_owned();
                    self.at += 2;
                    self.import(line, &path, &alias, is_public);
                }
                _ => {
                    let named = path.iter().rev().find(|name| *name != "self").cloned().unwrap_or_default();
                    self.import(line, &path, &named, is_public);
                }
            }
        }

        fn import(&mut self, line: usize, path: &[String], alias: &str, is_public: bool) {
            let path: Vec<String> = match path {
                [path @ .., last] if last == "self" && !path.is_empty() => path.to_vec(),
                path => path.to_vec(),
            };
            if let Some(path) = self.resolved(&path) {
                let kind = if is_public { Kind::Reexport(alias.to_owned()) } else { Kind::Use(alias.to_owned()) };
                self.found.push(Mention { line, path, kind });
            }
        }

        /// A path as it stands here, from the root; `None` if it leads out of the crate or to a name of the file.
        fn resolved(&self, names: &[String]) -> Option<Vec<String>> {
            let here =
                || [&self.file[..], &self.inline.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()].concat();
            let (first, rest) = names.split_first()?;
            match first.as_str() {
                "crate" => Some(rest.to_vec()),
                "self" => Some([here(), rest.to_vec()].concat()),
                "super" => {
                    let up = names.iter().take_while(|name| *name == "super").count();
                    let here = here();
                    let kept = here.len().checked_sub(up)?;
                    Some([&here[..kept], &names[up..]].concat())
                }
                _ => {
                    let child = [here(), vec![first.clone()]].concat();
                    self.modules.contains(&child).then(|| [here(), names.to_vec()].concat())
                }
            }
        }
    }
}

/// What ARCHITECTURE.md lets each folder know of.
struct Table {
    rows: Vec<(String, BTreeSet<String>)>,
}

impl Table {
    /// Reads the rows of the table whose header begins with `| folder |`: the names in backticks of its first and its
    /// last column.
    fn read(text: &str) -> Table {
        let lines = text.lines().skip_while(|line| !line.starts_with("| folder |")).skip(2);
        let rows = lines.take_while(|line| line.starts_with('|')).flat_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
            let known: BTreeSet<String> = in_backticks(cells[cells.len() - 1]).collect();
            in_backticks(cells[0]).map(|folder| (folder, known.clone())).collect::<Vec<_>>()
        });
        Table { rows: rows.collect() }
    }

    fn allows(&self, from: &str, to: &str) -> bool {
        self.rows.iter().any(|(folder, known)| folder == from && known.contains(to))
    }
}

/// The words in backticks, as names of modules: `loss.rs` and `kernels/` are `loss` and `kernels`.
fn in_backticks(cell: &str) -> impl Iterator<Item = String> {
    let words = cell.split('`').skip(1).step_by(2);
    words.map(|word| word.trim_end_matches(".rs").trim_end_matches('/').to_owned())
}

/// The circles among the files and folders in `folder`: for each the imports that make it.
fn circles<'a>(folder: &Module, imports: &'a [Import]) -> Vec<Vec<&'a Import>> {
    let mut arrows: BTreeMap<String, BTreeMap<String, &Import>> = BTreeMap::new();
    for import in imports.iter().filter(|import| import.from.starts_with(folder) && import.to.starts_with(folder)) {
        let (Some(from), Some(to)) = (import.from.get(folder.len()), import.to.get(folder.len())) else { continue };
        if from != to {
            arrows.entry(from.clone()).or_default().entry(to.clone()).or_insert(import);
        }
    }
    let reached = |start: &str| -> BTreeSet<&str> {
        let (mut reached, mut waiting) = (BTreeSet::new(), vec![start]);
        while let Some(part) = waiting.pop() {
            for next in arrows.get(part).into_iter().flat_map(BTreeMap::keys) {
                if reached.insert(next.as_str()) {
                    waiting.push(next);
                }
            }
        }
        reached
    };
    let reach: BTreeMap<&str, BTreeSet<&str>> = arrows.keys().map(|part| (part.as_str(), reached(part))).collect();
    let mutual = |a: &str, b: &str| reach[a].contains(b) && reach.get(b).is_some_and(|back| back.contains(a));
    let mut found: Vec<Vec<&Import>> = Vec::new();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for part in arrows.keys().filter(|part| mutual(part, part)) {
        if told.insert(part) {
            let members: Vec<&str> = arrows.keys().map(String::as_str).filter(|other| mutual(part, other)).collect();
            told.extend(&members);
            let inside = members.iter().flat_map(|from| {
                arrows[*from].iter().filter(|(to, _)| members.contains(&to.as_str())).map(|(_, import)| *import)
            });
            found.push(inside.collect());
        }
    }
    found
}

fn library() -> (Library, Vec<Import>) {
    let library = Library::read(Path::new("src"));
    let imports = library.imports();
    // The reader sees what is there: this much at the least.
    assert!(library.sources.len() > 100 && imports.len() > 500, "{} imports", imports.len());
    (library, imports)
}

/// Imports shown of each arrow that is not allowed.
const SHOWN: usize = 5;

#[test]
fn folders_import_what_the_table_of_the_architecture_allows() {
    let (library, imports) = library();
    let table = Table::read(&fs::read_to_string("ARCHITECTURE.md").unwrap());
    let folders: BTreeSet<&String> = library.modules.iter().filter_map(|module| module.first()).collect();
    let mut complaints = Vec::new();
    for folder in &folders {
        let rows = table.rows.iter().filter(|(named, _)| named == *folder).count();
        if rows != 1 {
            complaints.push(format!("src/{folder}: ARCHITECTURE.md has {rows} rows for it; write one"));
        }
    }
    for (at, (folder, known)) in table.rows.iter().enumerate() {
        if !folders.contains(folder) {
            complaints.push(format!("ARCHITECTURE.md: src has no `{folder}`; take it from the table"));
        }
        for name in known {
            if !table.rows[..at].iter().any(|(above, _)| above == name) {
                let reason = "which must stand in a row above; arrows go one way";
                complaints.push(format!("ARCHITECTURE.md: `{folder}` knows of `{name}`, {reason}"));
            }
        }
    }
    let mut arrows: BTreeMap<(&String, &String), Vec<&Import>> = BTreeMap::new();
    for import in imports.iter().filter(|import| !import.from.is_empty() && !import.to.is_empty()) {
        arrows.entry((&import.from[0], &import.to[0])).or_default().push(import);
    }
    for ((from, to), imports) in &arrows {
        if from != to && !table.allows(from, to) {
            let cure = "move what both need below them, or add it to the table if the arrow points down";
            let lines: Vec<String> = imports.iter().take(SHOWN).map(|import| format!("  {import}")).collect();
            let count = imports.len();
            complaints.push(format!(
                "`{from}` knows of `{to}` ({count} imports), which ARCHITECTURE.md does not allow: {cure}\n{}",
                lines.join("\n")
            ));
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn no_imports_go_in_a_circle() {
    let (library, imports) = library();
    let folders = library.modules.iter().flat_map(|module| (0..=module.len()).map(|length| module[..length].to_vec()));
    let mut complaints = Vec::new();
    for folder in folders.collect::<BTreeSet<_>>() {
        for circle in circles(&folder, &imports) {
            let name = [&["src".to_owned()], &folder[..]].concat().join("/");
            let lines: Vec<String> = circle.iter().map(|import| format!("  {import}")).collect();
            complaints.push(format!(
                "{name}: a circle; move what both sides need to a file below them\n{}",
                lines.join("\n")
            ));
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn imports_are_read_as_the_compiler_reads_them() {
    let code = "
        //! crate::comment
        use crate::{a::{self, B}, c::D as E}; pub use super::f::G;
        const TEXT: &str = \"crate::string\"; const C: char = '\"';
        fn x<'a>() { crate::h::i::<u8>(); child::j(); other::k() }
        mod inline { use super::super::l::M; }
        #[cfg(test)]
        mod tests { use crate::n::O; }
    ";
    let words = |text: &str| -> Vec<String> { text.split("::").map(str::to_owned).collect() };
    let modules = BTreeSet::from([words("p"), words("p::q"), words("p::q::child")]);
    let found = parse::mentions(&text::without_tests(&text::code(code)), &words("p::q"), &modules);
    let expected = [
        (3, "a", Kind::Use("a".into())),
        (3, "a::B", Kind::Use("B".into())),
        (3, "c::D", Kind::Use("E".into())),
        (3, "p::f::G", Kind::Reexport("G".into())),
        (5, "h::i", Kind::Inline),
        (5, "p::q::child::j", Kind::Inline),
        (6, "p::l::M", Kind::Use("M".into())),
    ];
    let expected = expected.map(|(line, path, kind)| Mention { line, path: words(path), kind });
    assert_eq!(found, expected);
}

#[test]
fn circles_are_found_at_the_level_where_they_are() {
    let module = |text: &str| -> Module { text.split("::").map(str::to_owned).collect() };
    let import =
        |from: &str, to: &str| Import { place: "here".into(), name: to.into(), from: module(from), to: module(to) };
    let imports =
        [import("a::x", "b"), import("b", "c"), import("c", "a::y"), import("a::x", "a::y"), import("d", "a")];
    let found = circles(&Vec::new(), &imports);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].len(), 3);
    assert!(circles(&module("a"), &imports).is_empty());
    assert_eq!(circles(&module("a"), &[import("a::x", "a::y"), import("a::y", "a::x")]).len(), 1);
}
