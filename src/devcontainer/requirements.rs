//! What a devcontainer needs of its machine.

use super::{Draft, Fields};
use serde_json::Value;

/// Maps `hostRequirements`: what is needed is reserved, and is the most there is.
pub(super) fn requirements(fields: &Fields, draft: &mut Draft) {
    let Some(all) = fields.get("hostRequirements") else { return };
    let Some(all) = all.as_object() else { return draft.note("hostRequirements", "must be an object") };
    for (key, value) in all {
        let at = format!("hostRequirements.{key}");
        let fits = match key.as_str() {
            "cpus" => value.as_f64().filter(|c| (0.05..=1024.0).contains(c)).map(|cpus| draft.template.limits.cpu = Some(cpus)),
            "memory" => mebibytes(value).and_then(|m| u32::try_from(m).ok()).filter(|m| *m >= 6).map(|memory| {
                draft.template.min_ram_mb = Some(memory);
                draft.template.limits.memory_mb = Some(memory);
            }),
            "storage" => {
                mebibytes(value).map(|disk| draft.template.min_disk_gb = Some((disk as f64 / 1024.0 * 10.0).ceil() / 10.0))
            }
            "gpu" => {
                draft.note(at, "is not mapped: workspaces have no graphics processors");
                continue;
            }
            _ => None,
        };
        if fits.is_none() {
            draft
                .note(at, format!("{value} is not mapped: must be a number (cpus), or a size such as \"8gb\" (memory, storage)"));
        }
    }
}

/// `8gb`, `512mb` or a number of bytes.
fn mebibytes(value: &Value) -> Option<u64> {
    let text = match value {
        Value::String(text) => text.trim().to_ascii_lowercase(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let bytes = match unit.trim() {
        "" => number,
        "kb" => number.checked_mul(1 << 10)?,
        "mb" => number.checked_mul(1 << 20)?,
        "gb" => number.checked_mul(1 << 30)?,
        "tb" => number.checked_mul(1 << 40)?,
        _ => return None,
    };
    Some(bytes.div_ceil(1 << 20)).filter(|m| *m <= 1 << 30)
}
