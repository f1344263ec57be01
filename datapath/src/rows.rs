//! Rows of the kernel's maps as bytes: written, read and removed, with errors that name the map. Knows no layout.

use std::ops::Range;

use engine::backend::BackendError;
use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapType};

use crate::nodes::{Change, Row};
use crate::testrun::of_call;

fn failed(what: &str, map: &impl MapCore) -> impl FnOnce(libbpf_rs::Error) -> BackendError {
    let call = format!("{what} map {}", map.name().to_string_lossy());
    move |error| of_call(&call)(error)
}

/// Changes rows, in order.
pub(crate) fn change(map: &impl MapCore, changes: &[Change<'_>]) -> Result<(), BackendError> {
    changes.iter().try_for_each(|change| match change {
        Change::Put(key, value) => write(map, key, value),
        Change::Remove(key) => remove(map, key),
    })
}

/// Writes a row.
pub(crate) fn write(map: &impl MapCore, key: &[u8], value: &[u8]) -> Result<(), BackendError> {
    map.update(key, value, MapFlags::ANY).map_err(|error| failed("writing", map)(error))
}

/// Deletes a row, which need not be there.
pub(crate) fn remove(map: &impl MapCore, key: &[u8]) -> Result<(), BackendError> {
    match map.delete(key) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("emptying", map)(error)),
        _ => Ok(()),
    }
}

/// The value of a key.
pub(crate) fn look_up(map: &impl MapCore, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
    map.lookup(key, MapFlags::ANY).map_err(|error| failed("reading", map)(error))
}

/// All rows; of a map that packets write meanwhile those that stay.
pub(crate) fn all(map: &impl MapCore) -> Result<Vec<Row>, BackendError> {
    if matches!(map.map_type(), MapType::Array | MapType::Hash | MapType::LruHash) {
        // Thousands of entries by one call instead of two calls each; what has room for all is never too small.
        let entries = map.lookup_batch(map.max_entries(), MapFlags::ANY, MapFlags::ANY);
        return entries.map(Iterator::collect).map_err(failed("reading", map));
    }
    let row = |key: Vec<u8>| Ok(look_up(map, &key)?.map(|value| (key, value)));
    map.keys().filter_map(|key| row(key).transpose()).collect()
}

/// Deletes all rows.
pub(crate) fn remove_all(map: &impl MapCore) -> Result<(), BackendError> {
    // A key that is deleted while keys are listed would begin the list anew.
    map.keys().collect::<Vec<_>>().iter().try_for_each(|key| remove(map, key))
}

/// The value of every CPU at an index of a per-CPU array.
pub(crate) fn per_cpu(map: &impl MapCore, index: u32) -> Result<Vec<Vec<u8>>, BackendError> {
    let values = map
        .lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY)
        .map_err(|error| failed("reading", map)(error))?;
    Ok(values.unwrap_or_default())
}

/// Makes entries of a per-CPU array 0.
pub(crate) fn clear(map: &impl MapCore, indices: Range<u32>) -> Result<(), BackendError> {
    let cpus = libbpf_rs::num_possible_cpus().map_err(of_call("counting CPUs"))?;
    // As the kernel lays values of CPUs out.
    let size = (map.value_size() as usize).next_multiple_of(8);
    let zeros = vec![vec![0; size]; cpus];
    for index in indices {
        map.update_percpu(&index.to_ne_bytes(), &zeros, MapFlags::ANY)
            .map_err(|error| failed("emptying", map)(error))?;
    }
    Ok(())
}

/// The sum of what every CPU has at the first index of a per-CPU array of numbers.
pub(crate) fn sum(map: &impl MapCore) -> Result<u64, BackendError> {
    let count = |value: &Vec<u8>| value.first_chunk().copied().map_or(0, u64::from_ne_bytes);
    Ok(per_cpu(map, 0)?.iter().map(count).sum())
}
