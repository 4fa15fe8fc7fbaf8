//! The order of a merged list: items that the patch names in the patch's order, the others where they stood.

use serde_json::Value;

/// Whether two items are the same element: by the merge key, or whole where there is none.
fn same(a: &Value, b: &Value, key: &str) -> bool {
    if key.is_empty() { a == b } else { a.get(key).is_some() && a.get(key) == b.get(key) }
}

fn index(list: &[Value], item: &Value, key: &str) -> Option<usize> {
    list.iter().position(|x| same(x, item, key))
}

/// Arranges `merged`: what `wanted` names follows its order, the rest keeps its place relative to `live`.
pub(super) fn arrange(merged: Vec<Value>, wanted: &[Value], live: &[Value], key: &str) -> Vec<Value> {
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| index(wanted, item, key).is_some());
    named.sort_by_key(|item| index(wanted, item, key));
    others.sort_by_key(|item| index(live, item, key).unwrap_or(usize::MAX));
    interleave(others, named, live, key)
}

/// Merges two lists whose own orders stay; an item of `left` goes before one of `right` if the live list had it so.
fn interleave(left: Vec<Value>, right: Vec<Value>, live: &[Value], key: &str) -> Vec<Value> {
    let mut out = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(l), Some(r)) = (left.peek(), right.peek()) {
        let before = match (index(live, l, key), index(live, r, key)) {
            (Some(l), Some(r)) => l < r,
            _ => false,
        };
        out.extend(if before { left.next() } else { right.next() });
    }
    out.extend(left);
    out.extend(right);
    out
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "the cases are literals")]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(merged: Value, wanted: Value, live: Value, expected: Value) {
        let list = |v: &Value| v.as_array().unwrap().clone();
        assert_eq!(Value::Array(arrange(list(&merged), &list(&wanted), &list(&live), "")), expected);
    }

    #[test]
    fn named_items_follow_the_patch_and_others_stay() {
        check(json!([1, 2, 3]), json!([3, 1]), json!([1, 2, 3]), json!([2, 3, 1]));
        check(json!([1, 2, 4]), json!([4, 1]), json!([1, 2]), json!([4, 1, 2]));
        check(json!([1, 2]), json!([]), json!([2, 1]), json!([2, 1]));
    }
}
