//! Files that settings name.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The text of a file, or what keeps it from being read.
pub fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| cannot_read(path, &error))
}

/// The same for a secret. One that others on the machine can read is none.
pub fn read_private(path: &Path) -> Result<String, String> {
    let mode = std::fs::metadata(path).map_err(|error| cannot_read(path, &error))?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(format!("{0} can be read by everybody; run: chmod 600 {0}", path.display()));
    }
    read(path)
}

fn cannot_read(path: &Path, error: &std::io::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}
