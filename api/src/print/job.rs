//! Jobs and CronJobs.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{View, age, cell};
use crate::{decode, path};

pub(super) fn view(kind: &str) -> Option<View> {
    let columns = match kind {
        "Job" => "Name|Status|Completions|Duration|Age|*Containers|*Images|*Selector",
        "CronJob" => {
            "Name|Schedule|Timezone|Suspend:boolean|Active:integer|Last Schedule|Age|*Containers|*Images|*Selector"
        }
        _ => return None,
    };
    Some(View { columns, cells: if kind == "Job" { job } else { cron_job } })
}

fn job(object: &Value, now: Timestamp) -> Vec<Value> {
    let done = path::int(object, "status.succeeded").unwrap_or(0);
    let parallel = path::int(object, "spec.parallelism").unwrap_or(0);
    let completions = match path::int(object, "spec.completions") {
        Some(wanted) => format!("{done}/{wanted}"),
        None if parallel > 1 => format!("{done}/1 of {parallel}"),
        None => format!("{done}/1"),
    };
    let start = decode::parse_time(path::str(object, "status.startTime"));
    let end = decode::parse_time(path::str(object, "status.completionTime")).unwrap_or(now);
    let duration = start.map_or_else(String::new, |start| age::human_duration(end.as_second() - start.as_second()));
    let [names, images] = cell::containers(path::get(object, "spec.template.spec"));
    vec![
        cell::name(object),
        json!(status(object)),
        json!(completions),
        json!(duration),
        cell::age(object, now),
        names,
        images,
        json!(cell::selector(path::get(object, "spec.selector"))),
    ]
}

fn status(object: &Value) -> &'static str {
    let has = |kind: &str| cell::condition(object, kind) == Some("True");
    if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if !path::get(object, "metadata.deletionTimestamp").is_null() {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn cron_job(object: &Value, now: Timestamp) -> Vec<Value> {
    let last = match path::str(object, "status.lastScheduleTime") {
        "" => cell::NONE.to_owned(),
        time => age::since(time, now),
    };
    let suspend = match path::get(object, "spec.suspend") {
        Value::Bool(true) => "True",
        Value::Bool(false) => "False",
        _ => cell::UNSET,
    };
    let [names, images] = cell::containers(path::get(object, "spec.jobTemplate.spec.template.spec"));
    vec![
        cell::name(object),
        json!(path::str(object, "spec.schedule")),
        json!(cell::text(object, "spec.timeZone", cell::NONE)),
        json!(suspend),
        json!(path::list(object, "status.active").len()),
        json!(last),
        cell::age(object, now),
        names,
        images,
        json!(cell::selector(path::get(object, "spec.jobTemplate.spec.selector"))),
    ]
}
