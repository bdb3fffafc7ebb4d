//! Command lines of `docker` and Compose, as far as they say which containers they start or hold on to.

use std::path::Path;

use serde_json::Value;

/// Compose as a program of its own.
const COMPOSE: &str = "docker-compose";
/// The programs whose commands are understood.
const PROGRAMS: [&str; 2] = ["docker", COMPOSE];
/// Options of `docker` itself, before the subcommand, that take a value of their own.
const GLOBAL_WITH_VALUE: [&str; 10] =
    ["--config", "-c", "--context", "-H", "--host", "-l", "--log-level", "--tlscacert", "--tlscert", "--tlskey"];
/// Options of `start` and `attach` that take a value of their own.
const START_WITH_VALUE: [&str; 3] = ["--detach-keys", "--checkpoint", "--checkpoint-dir"];
/// Shortest part of an ID that counts as one.
const ID_PART_MIN: usize = 12;

/// A command that starts containers, or is attached to them. Its words may hold passwords (`-e SECRET=…`): they are kept
/// no longer than it takes to see what it means, and shown to nobody.
pub struct Command {
    /// `docker` or `docker-compose`.
    pub program: &'static str,
    means: Means,
}

enum Means {
    /// Containers by name or ID.
    Named(Vec<Pattern>),
    /// A container without a name of its own, known by its image alone, which is one of these words.
    Unnamed(Vec<String>),
    /// The containers of a Compose project.
    Project { name: Option<String>, directory: Option<String>, files: Vec<String> },
}

/// A name, or its parts around what is not known here. A whole name is one part.
struct Pattern(Vec<String>);

/// Where a command line was found, which decides what its names may hold.
#[derive(Clone, Copy)]
pub enum Naming<'a> {
    /// In a process: names are what they are.
    Plain,
    /// In a unit file of this name: names may hold `%` specifiers and variables.
    OfUnit(&'a str),
}

impl Command {
    /// Reads the words of a command line, which may stand behind a shell's. `None` if it starts and holds no container.
    pub fn parse(words: &[String], naming: Naming<'_>, directory: Option<&Path>) -> Option<Self> {
        let program = |word: &String| {
            let word = word.trim_start_matches(['-', '@', ':', '+', '!', '"', '\'']);
            let name = word.rsplit('/').next().unwrap_or(word);
            PROGRAMS.into_iter().find(|program| *program == name)
        };
        let (start, program) = words.iter().enumerate().find_map(|(index, word)| Some((index, program(word)?)))?;
        let arguments = &words[start + 1..];
        let is_compose = program == COMPOSE;
        let means = if is_compose { compose(arguments, directory)? } else { docker(arguments, naming, directory)? };
        Some(Self { program, means })
    }

    /// Whether a container, by its raw inspection, is one of those that this command means.
    pub fn means(&self, container: &Value) -> bool {
        let text = |pointer: &str| container.pointer(pointer).and_then(Value::as_str).unwrap_or("");
        match &self.means {
            Means::Named(patterns) => {
                let (name, id) = (text("/Name").trim_start_matches('/'), text("/Id"));
                patterns.iter().any(|pattern| pattern.fits(name) || pattern.is_part_of(id))
            }
            Means::Unnamed(words) => {
                let image = text("/Config/Image");
                // A client that waits for the end of its container attaches to its output; one that left did not.
                let is_attached = container.pointer("/Config/AttachStdout") == Some(&Value::Bool(true));
                is_attached && !image.is_empty() && words.iter().any(|word| word == image)
            }
            Means::Project { name, directory, files } => {
                let label = |name: &str| text(&format!("/Config/Labels/com.docker.compose.{name}"));
                let is = |value: &Option<String>, label: &str| value.as_deref().is_some_and(|value| value == label);
                let project = label("project");
                !project.is_empty()
                    && match name {
                        Some(_) => is(name, project),
                        None => {
                            is(directory, label("project.working_dir"))
                                || label("project.config_files")
                                    .split(',')
                                    .any(|file| files.iter().any(|given| given == file))
                        }
                    }
            }
        }
    }
}

/// What `docker` with these arguments means.
fn docker(arguments: &[String], naming: Naming<'_>, directory: Option<&Path>) -> Option<Means> {
    let arguments = skip_options(arguments, &GLOBAL_WITH_VALUE);
    let (subcommand, arguments) = arguments.split_first()?;
    if subcommand == "container" {
        return docker(arguments, naming, directory);
    }
    match subcommand.as_str() {
        "run" | "create" => Some(match option(arguments, "--name") {
            Some(name) => Means::Named(vec![Pattern::new(&name, naming)?]),
            None if matches!(naming, Naming::Plain) => Means::Unnamed(arguments.to_vec()),
            None => return None,
        }),
        "start" | "attach" => {
            let mut names = Vec::new();
            let mut rest = skip_options(arguments, &START_WITH_VALUE);
            while let Some((name, further)) = rest.split_first() {
                // A shell's next command, as in `docker start -a web || docker run web`, is not read.
                if name.starts_with('|') || name.is_empty() {
                    break;
                }
                names.extend(Pattern::new(name, naming));
                rest = skip_options(further, &START_WITH_VALUE);
            }
            (!names.is_empty()).then_some(Means::Named(names))
        }
        "compose" => compose(arguments, directory),
        _ => None,
    }
}

/// What Compose with these arguments means: the project that it holds on to, if it does.
fn compose(arguments: &[String], directory: Option<&Path>) -> Option<Means> {
    // Docker starts Compose as its plugin, with the subcommand in front.
    let arguments = arguments.strip_prefix(&["compose".to_owned()][..]).unwrap_or(arguments);
    let up = arguments.iter().position(|argument| argument == "up")?;
    let is_detached = arguments[up..].iter().any(|argument| matches!(argument.as_str(), "-d" | "--detach" | "--wait"));
    if is_detached {
        return None;
    }
    let given = &arguments[..up];
    let directory = directory.map(|directory| directory.to_string_lossy().into_owned());
    let absolute = |path: String| match &directory {
        Some(directory) if !path.starts_with('/') => format!("{directory}/{}", path.trim_start_matches("./")),
        _ => path,
    };
    let files = ["-f", "--file"].into_iter().filter_map(|name| option(given, name)).map(absolute).collect();
    let project_directory = option(given, "--project-directory");
    Some(Means::Project {
        name: option(given, "-p").or_else(|| option(given, "--project-name")),
        directory: project_directory.map(absolute).or_else(|| directory.clone()),
        files,
    })
}

/// The value of an option, as the next word or behind `=`.
fn option(arguments: &[String], name: &str) -> Option<String> {
    let index = arguments.iter().position(|argument| {
        argument == name || argument.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
    })?;
    match arguments[index].split_once('=') {
        Some((_, value)) => Some(value.to_owned()),
        None => arguments.get(index + 1).cloned(),
    }
}

/// The arguments from the first that is no option and no option's value.
fn skip_options<'a>(mut arguments: &'a [String], with_value: &[&str]) -> &'a [String] {
    while let Some((first, rest)) = arguments.split_first() {
        if !first.starts_with('-') {
            break;
        }
        let takes_next = with_value.contains(&first.as_str()) && !rest.is_empty();
        arguments = if takes_next { &rest[1..] } else { rest };
    }
    arguments
}

impl Pattern {
    /// A pattern for a name. `None` if nothing of it is known, since it would fit every container.
    fn new(name: &str, naming: Naming<'_>) -> Option<Self> {
        let parts = match naming {
            Naming::Plain => vec![name.to_owned()],
            Naming::OfUnit(unit) => parts_of(name, unit),
        };
        parts.iter().any(|part| !part.is_empty()).then_some(Self(parts))
    }

    fn fits(&self, name: &str) -> bool {
        let [first, middle @ .., last] = self.0.as_slice() else {
            return self.0.first().is_some_and(|whole| whole == name);
        };
        let Some(mut rest) = name.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str())) else {
            return false;
        };
        for part in middle {
            let Some(at) = rest.find(part.as_str()) else { return false };
            rest = &rest[at + part.len()..];
        }
        true
    }

    fn is_part_of(&self, id: &str) -> bool {
        matches!(self.0.as_slice(), [part] if part.len() >= ID_PART_MIN && id.starts_with(part.as_str()))
    }
}

/// A name in a unit file, cut where systemd puts in something that is not known here. Of its specifiers, those that
/// stand for the unit's own name are (`man systemd.unit`).
fn parts_of(name: &str, unit: &str) -> Vec<String> {
    let stem = unit.trim_end_matches(".service");
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let is_template = stem.ends_with('@');
    let mut parts = vec![String::new()];
    let mut rest = name.chars().peekable();
    while let Some(letter) = rest.next() {
        let known = match (letter, rest.peek()) {
            ('%', Some('n')) if !is_template => Some(unit),
            ('%', Some('N')) if !is_template => Some(stem),
            ('%', Some('p')) => Some(prefix),
            ('%', Some('i')) if !is_template => Some(instance),
            ('%', Some('%')) => Some("%"),
            ('%', Some(_)) | ('$', _) => None,
            _ => {
                parts.last_mut().expect("there is one from the start").push(letter);
                continue;
            }
        };
        if letter == '$' {
            // A variable's name ends with its brace, or with the first character that cannot be in one.
            let is_braced = rest.peek() == Some(&'{');
            while rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_' || (is_braced && *c == '{')).is_some() {}
            rest.next_if_eq(&'}');
        } else {
            rest.next();
        }
        match known {
            Some(known) => parts.last_mut().expect("there is one from the start").push_str(known),
            None => parts.push(String::new()),
        }
    }
    parts
}
