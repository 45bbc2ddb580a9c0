//! Finds files of a crate that use each other in a circle.
//!
//! A file uses another if it names something that is declared there: in a `use`, in a path, or in a macro. A name
//! that a module only passes on (`use child::Name`) counts for the file that declares it, so a parent may wire its
//! children; a child that names its parent's own type closes a circle. Modules compiled for tests alone do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// Re-exported names are followed this far; no readable crate has longer chains of `use`.
const PASSED_ON_MAX: usize = 16;

type ModulePath = Vec<String>;

/// One module: a file, or a `mod name { … }` in it.
#[derive(Default)]
struct Module {
    file: PathBuf,
    children: BTreeSet<String>,
    /// Names that `use` brings in, with the paths they stand for.
    imports: BTreeMap<String, Vec<String>>,
    /// Every path that the module's code names, as written.
    named: Vec<Vec<String>>,
}

/// The modules of one crate.
#[derive(Default)]
struct Crate {
    modules: BTreeMap<ModulePath, Module>,
}

/// Returns the files that `root` (a `lib.rs` or `main.rs`) leads to, each with the files it uses.
pub(crate) fn uses_of_files(root: &Path) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
    let mut krate = Crate::default();
    let dir = root.parent().expect("a file lies in a folder");
    krate.read_file(root, &Vec::new(), dir);
    krate.uses()
}

/// Returns the groups of at least two nodes that reach each other.
pub(crate) fn circles<T: Ord + Clone>(uses: &BTreeMap<T, BTreeSet<T>>) -> Vec<BTreeSet<T>> {
    let reached: BTreeMap<&T, BTreeSet<&T>> =
        uses.keys().map(|node| (node, reach(node, uses))).collect();
    let mut found = Vec::new();
    let mut placed = BTreeSet::new();
    for (node, forth) in &reached {
        if placed.contains(node) {
            continue;
        }
        let back = |other: &&&T| reached.get(*other).is_some_and(|of| of.contains(node));
        let group: BTreeSet<T> = forth.iter().filter(back).map(|&one| one.clone()).collect();
        if group.len() > 1 {
            placed.extend(forth.iter().filter(back).copied());
            found.push(group);
        }
    }
    found
}

/// Returns everything that `node` uses, directly or indirectly; contains `node` itself only if it lies on a circle.
fn reach<'a, T: Ord>(node: &'a T, uses: &'a BTreeMap<T, BTreeSet<T>>) -> BTreeSet<&'a T> {
    let mut reached = BTreeSet::new();
    let mut open = vec![node];
    while let Some(next) = open.pop() {
        for used in uses.get(next).into_iter().flatten() {
            if reached.insert(used) {
                open.push(used);
            }
        }
    }
    reached
}

impl Crate {
    fn read_file(&mut self, file: &Path, path: &ModulePath, children_dir: &Path) {
        let text = std::fs::read_to_string(file)
            .unwrap_or_else(|error| panic!("read {}: {error}", file.display()));
        let parsed =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.read_items(&parsed.items, file, path, children_dir);
    }

    fn read_items(&mut self, items: &[Item], file: &Path, path: &ModulePath, children_dir: &Path) {
        let mut module = Module {
            file: file.to_owned(),
            ..Module::default()
        };
        for item in items {
            if is_for_tests(item) {
                continue;
            }
            if let Item::Mod(child) = item {
                let name = child.ident.to_string();
                let child_path = [path.as_slice(), std::slice::from_ref(&name)].concat();
                if let Some((_, items)) = &child.content {
                    self.read_items(items, file, &child_path, &children_dir.join(&name));
                } else {
                    let (file, dir) = file_of_child(children_dir, &name, &child.attrs);
                    self.read_file(&file, &child_path, &dir);
                }
                module.children.insert(name);
                continue;
            }
            if let Item::Use(import) = item {
                flatten(&import.tree, &mut Vec::new(), &mut |path, alias| {
                    module.imports.insert(alias, path);
                });
            }
            Names(&mut module.named).visit_item(item);
        }
        self.modules.insert(path.clone(), module);
    }

    fn uses(&self) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
        let mut uses: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
        for (path, module) in &self.modules {
            let used = uses.entry(module.file.clone()).or_default();
            let declaring = module.named.iter();
            let declaring = declaring.filter_map(|named| self.declaring(path, named, 0));
            used.extend(declaring.filter(|file| **file != module.file).cloned());
        }
        uses
    }

    /// The file that declares what `named` stands for in the module `from`; nothing where another crate does.
    fn declaring(&self, from: &ModulePath, named: &[String], depth: usize) -> Option<&PathBuf> {
        let mut place = from.clone();
        let mut rest = named.iter().peekable();
        match named.first()?.as_str() {
            "crate" => {
                place.clear();
                rest.next();
            }
            "self" => {
                rest.next();
            }
            "super" => {}
            first if self.modules[from].children.contains(first) => {}
            _ => return None,
        }
        while rest.next_if(|name| *name == "super").is_some() {
            place.pop()?;
        }
        loop {
            let module = self.modules.get(&place)?;
            let Some(name) = rest.next() else {
                return Some(&module.file);
            };
            if module.children.contains(name) {
                place.push(name.clone());
                continue;
            }
            let passed_on = module.imports.get(name).filter(|_| depth < PASSED_ON_MAX);
            let Some(import) = passed_on else {
                return Some(&module.file);
            };
            return self.declaring(&place, import, depth + 1);
        }
    }
}

/// Where `mod name;` lies, and where its own children do.
fn file_of_child(dir: &Path, name: &str, attrs: &[Attribute]) -> (PathBuf, PathBuf) {
    let children = dir.join(name);
    assert!(
        !attrs.iter().any(|attr| attr.path().is_ident("path")),
        "{}: a module lies where its name says, without #[path]",
        children.display()
    );
    let flat = dir.join(format!("{name}.rs"));
    let file = if flat.is_file() {
        flat
    } else {
        children.join("mod.rs")
    };
    (file, children)
}

fn is_for_tests(item: &Item) -> bool {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "other kinds of code hold no modules and use none"
    )]
    let attrs = match item {
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        _ => return false,
    };
    let named_tests = matches!(item, Item::Mod(item) if item.ident == "tests");
    named_tests || attrs.iter().any(is_cfg_test)
}

fn is_cfg_test(attr: &Attribute) -> bool {
    let is_test = |path: syn::Path| path.is_ident("test");
    attr.path().is_ident("cfg") && attr.parse_args().is_ok_and(is_test)
}

/// Calls `each` with every path of a `use` and the name it is known by; `*` counts for the module before it.
fn flatten(tree: &UseTree, before: &mut Vec<String>, each: &mut impl FnMut(Vec<String>, String)) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, each);
            before.pop();
        }
        UseTree::Name(name) => {
            leaf(before, &name.ident.to_string(), None, each);
        }
        UseTree::Rename(rename) => {
            leaf(
                before,
                &rename.ident.to_string(),
                Some(rename.rename.to_string()),
                each,
            );
        }
        UseTree::Glob(_) => each(before.clone(), "*".to_owned()),
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, before, each);
            }
        }
    }
}

fn leaf(
    before: &[String],
    name: &str,
    alias: Option<String>,
    each: &mut impl FnMut(Vec<String>, String),
) {
    let mut path = before.to_vec();
    if name != "self" || before.is_empty() {
        path.push(name.to_owned());
    }
    let alias = alias.or_else(|| path.last().cloned());
    each(path, alias.expect("a use names something"));
}

/// Collects the paths in an item.
struct Names<'a>(&'a mut Vec<Vec<String>>);

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        flatten(&import.tree, &mut Vec::new(), &mut |path, _| {
            self.0.push(path);
        });
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let names = path
                .segments
                .iter()
                .map(|segment| segment.ident.to_string());
            self.0.push(names.collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        paths_in_tokens(call.tokens.clone(), self.0);
    }

    /// `pub(crate)` uses nothing.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

/// Adds every `a::b::c` in `tokens`.
fn paths_in_tokens(tokens: TokenStream, found: &mut Vec<Vec<String>>) {
    let mut path: Vec<String> = Vec::new();
    let mut colons = 0;
    let mut end = |path: &mut Vec<String>| {
        let path = std::mem::take(path);
        if path.len() > 1 {
            found.push(path);
        }
    };
    let mut inner = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                if colons != 2 {
                    end(&mut path);
                }
                path.push(ident.to_string());
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Group(group) => {
                end(&mut path);
                inner.push(group.stream());
                colons = 0;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {
                end(&mut path);
                colons = 0;
            }
        }
    }
    end(&mut path);
    for tokens in inner {
        paths_in_tokens(tokens, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes `files` into a folder and tells the circles by file name.
    #[track_caller]
    fn check(files: &[(&str, &str)], expected: &[&[&str]]) {
        let dir = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("in a folder")).expect("make it");
            std::fs::write(path, text).expect("write it");
        }
        let uses = uses_of_files(&dir.path().join("lib.rs"));
        let found: Vec<Vec<String>> = circles(&uses)
            .iter()
            .map(|circle| {
                let names = circle.iter();
                let names = names.map(|file| file.strip_prefix(dir.path()).expect("below it"));
                names.map(|name| name.display().to_string()).collect()
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn files_in_a_line_are_no_circle() {
        check(
            &[
                ("lib.rs", "mod a; mod b; pub use a::A;"),
                ("a.rs", "use crate::b::B; pub struct A(B);"),
                ("b.rs", "pub struct B;"),
            ],
            &[],
        );
    }

    #[test]
    fn two_files_that_use_each_other_are_a_circle() {
        check(
            &[
                ("lib.rs", "mod a; mod b; mod c;"),
                ("a.rs", "use crate::{b::B, c};"),
                ("b.rs", "fn b() { super::a::go(); }"),
                ("c.rs", "pub fn c() {}"),
            ],
            &[&["a.rs", "b.rs"]],
        );
    }

    #[test]
    fn a_path_in_a_macro_counts() {
        check(
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "use crate::b::B;"),
                (
                    "b.rs",
                    "fn b() { assert!(vec![(crate::a::go(), 1)].len() > 1); }",
                ),
            ],
            &[&["a.rs", "b.rs"]],
        );
    }

    #[test]
    fn a_child_that_names_its_parents_type_closes_a_circle() {
        check(
            &[
                ("lib.rs", "mod a;"),
                ("a.rs", "mod child; use child::Child; pub struct A(Child);"),
                (
                    "a/child.rs",
                    "use super::A; pub struct Child; fn of(_: &A) {}",
                ),
            ],
            &[&["a/child.rs", "a.rs"]],
        );
    }

    #[test]
    fn what_a_parent_passes_on_counts_for_the_file_that_declares_it() {
        check(
            &[
                ("lib.rs", "mod a;"),
                (
                    "a/mod.rs",
                    "mod one; mod two; pub use one::One; use two::Two;",
                ),
                ("a/one.rs", "pub struct One;"),
                ("a/two.rs", "use super::One; pub struct Two(One);"),
            ],
            &[],
        );
    }

    #[test]
    fn a_drawer_in_the_root_is_seen() {
        check(
            &[
                (
                    "lib.rs",
                    "mod a; pub use a::go; pub(crate) const LIMIT: u32 = 1;",
                ),
                (
                    "a.rs",
                    "use crate::LIMIT; pub(crate) fn go() -> u32 { LIMIT }",
                ),
            ],
            &[&["a.rs", "lib.rs"]],
        );
    }

    #[test]
    fn tests_may_use_everything() {
        check(
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "use crate::b::B; pub struct A;"),
                (
                    "b.rs",
                    "#[cfg(test)] mod tests { use crate::a::A; } pub struct B;",
                ),
            ],
            &[],
        );
    }
}
