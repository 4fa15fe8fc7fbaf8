//! Ages and durations as kubectl prints them.

use jiff::Timestamp;

use crate::decode;

/// A duration in seconds: `90s`, `4m59s`, `3h`, `2d4h`, `1y2d`.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    match seconds {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => two(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if days < 365 * 8 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// The time since a timestamp in an object; `<unknown>` without one.
pub(super) fn since(text: &str, now: Timestamp) -> String {
    match decode::parse_time(text) {
        Some(then) => human_duration(now.as_second() - then.as_second()),
        None => "<unknown>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: i64, expected: &str) {
        assert_eq!(human_duration(seconds), expected);
    }

    #[test]
    fn durations() {
        const MINUTE: i64 = 60;
        const HOUR: i64 = 3600;
        const DAY: i64 = 86_400;
        check(-5, "<invalid>");
        check(-1, "0s");
        check(0, "0s");
        check(119, "119s");
        check(2 * MINUTE, "2m");
        check(9 * MINUTE + 59, "9m59s");
        check(10 * MINUTE + 5, "10m");
        check(179 * MINUTE, "179m");
        check(3 * HOUR, "3h");
        check(7 * HOUR + 5 * MINUTE, "7h5m");
        check(47 * HOUR, "47h");
        check(2 * DAY, "2d");
        check(7 * DAY + 3 * HOUR, "7d3h");
        check(8 * DAY + 3 * HOUR, "8d");
        check(729 * DAY, "729d");
        check(730 * DAY, "2y");
        check(735 * DAY, "2y5d");
        check(3000 * DAY, "8y");
    }
}
