//! Deployments: history, undo, restart, pause and resume, a rollout that cannot go on, Recreate.
use tests::Kubectl;

use super::lab::{names, rolled_out, workload};

pub(crate) fn rolls(kubectl: &Kubectl) {
    kubectl.apply(&workload(
        "Deployment",
        "web",
        "replicas: 3\n  progressDeadlineSeconds: 4\n  revisionHistoryLimit: 3",
    ));
    rolled_out(kubectl, "deploy/web");
    kubectl.says("annotate deploy/web kubernetes.io/change-cause=first", &["annotate"]);
    change(kubectl, "2");
    kubectl.says("annotate deploy/web kubernetes.io/change-cause=second --overwrite", &["annotate"]);
    history(kubectl);
    kubectl.says("rollout restart deploy/web", &["restarted"]);
    rolled_out(kubectl, "deploy/web");
    stuck(kubectl);
    paused(kubectl);
    limited(kubectl);
    recreated(kubectl);
    kubectl.says("delete deploy web --timeout=60s", &["deleted"]);
}

/// Another value in the template, and its rollout.
fn change(kubectl: &Kubectl, value: &str) {
    kubectl.says(&format!("set env deploy/web V={value}"), &["updated"]);
    rolled_out(kubectl, "deploy/web");
}

fn history(kubectl: &Kubectl) {
    kubectl.until("rollout history deploy/web", |text| {
        text.contains("1         first") && text.contains("2         second")
    });
    kubectl.says("rollout history deploy/web --revision=1", &["revision #1", "V:\t1"]);
    kubectl.says("rollout undo deploy/web", &["rolled back"]);
    rolled_out(kubectl, "deploy/web");
    let text = kubectl.says("rollout history deploy/web", &["2         second", "3         first"]);
    assert!(!text.contains("\n1 "), "revision 1 became 3:\n{text}");
    kubectl.says("rollout undo deploy/web --to-revision=2", &["rolled back"]);
    rolled_out(kubectl, "deploy/web");
    kubectl.says("get deploy web -o jsonpath={.spec.template.spec.containers[0].env[0].value}", &["2"]);
    kubectl.refused("rollout undo deploy/web --to-revision=99", "unable to find specified revision 99");
}

/// An image that is nowhere: the deadline is told, what works goes on working, undo ends it.
fn stuck(kubectl: &Kubectl) {
    kubectl.says("set image deploy/web c=nowhere:1.0", &["image updated"]);
    kubectl.refused("rollout status deploy/web --timeout=60s", "exceeded its progress deadline");
    kubectl.says(
        "get deploy web -o jsonpath={.status.conditions}",
        &["ProgressDeadlineExceeded", "MinimumReplicasAvailable"],
    );
    kubectl.says("get deploy web", &["3/3"]);
    kubectl.says("rollout undo deploy/web", &["rolled back"]);
    rolled_out(kubectl, "deploy/web");
}

/// While paused nothing is rolled out, but sizes change.
fn paused(kubectl: &Kubectl) {
    kubectl.says("rollout pause deploy/web", &["paused"]);
    let before = names(kubectl, "rs", "app=web");
    kubectl.says("set env deploy/web V=paused", &["updated"]);
    kubectl.says("scale deploy/web --replicas=4", &["scaled"]);
    kubectl.until("get deploy web", |text| text.contains("4/4     0"));
    let made: Vec<String> = names(kubectl, "rs", "app=web").into_iter().filter(|set| !before.contains(set)).collect();
    assert_eq!(made, Vec::<String>::new(), "no set is made while paused");
    kubectl.refused("rollout undo deploy/web", "cannot rollback a paused deployment");
    kubectl.says("rollout resume deploy/web", &["resumed"]);
    rolled_out(kubectl, "deploy/web");
    kubectl.says("get deploy web", &["4/4     4"]);
}

/// No more old sets than asked for.
fn limited(kubectl: &Kubectl) {
    kubectl.says("patch deploy web -p {\"spec\":{\"revisionHistoryLimit\":1}}", &["patched"]);
    kubectl.until("get rs -l app=web -o name", |text| text.lines().count() == 2);
}

/// Recreate: the old pods are gone before the first new one is made.
fn recreated(kubectl: &Kubectl) {
    kubectl.says(
        "patch deploy web -p {\"spec\":{\"strategy\":{\"type\":\"Recreate\",\"rollingUpdate\":null}}}",
        &["patched"],
    );
    let old = names(kubectl, "pods", "app=web");
    kubectl.says("set env deploy/web V=recreated", &["updated"]);
    // A pod whose containers have ended may still be listed.
    let running = "get pods -l app=web --field-selector=status.phase!=Succeeded,status.phase!=Failed -o name";
    kubectl.until(running, |text| {
        let mixed = text.lines().any(|pod| old.iter().any(|o| o == pod));
        let new = text.lines().any(|pod| !old.iter().any(|o| o == pod));
        assert!(!(mixed && new), "old and new pods at a time:\n{text}");
        new
    });
    rolled_out(kubectl, "deploy/web");
}
