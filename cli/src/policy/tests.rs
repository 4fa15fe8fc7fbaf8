//! What is printed for a small shop in one file.
use super::*;

const SHOP: &str = "kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
status: {podIP: 10.244.1.5}
---
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec:
  containers: [{name: c, ports: [{name: sql, containerPort: 5432}]}]
status: {podIP: 10.244.2.7}
---
kind: Deployment
metadata: {name: api, namespace: shop}
spec:
  template:
    metadata: {labels: {app: api}}
---
kind: Service
metadata: {name: data, namespace: shop}
spec: {selector: {app: db}, ports: [{port: 80, targetPort: sql}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: db
  namespace: shop
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from:
    - ipBlock: {cidr: 192.0.2.0/24}
    - podSelector: {matchLabels: {app: web}}
    ports:
    - port: sql
";

fn shop() -> source::Objects {
    let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "");
    let path = std::env::temp_dir().join(format!("weft-policy-{}-{thread}.yaml", std::process::id()));
    std::fs::write(&path, SHOP).expect("a temporary file");
    let objects = source::files(std::slice::from_ref(&path)).expect("the shop is right");
    std::fs::remove_file(&path).expect("it was written above");
    objects
}

#[track_caller]
fn check(from: &str, to: &str, expected: &str) {
    let objects = shop();
    let args = Explain {
        from: from.to_owned(),
        to: to.to_owned(),
        source: From { files: Vec::new(), kubeconfig: None, namespace: "shop".to_owned() },
        verbose: true,
        output: Output::Text,
    };
    let text = match explain(&args, &objects) {
        Ok((text, allowed)) => {
            assert_eq!(allowed, text.starts_with("allowed"));
            text
        }
        Err(error) => format!("error: {error:#}\n"),
    };
    // The file's own name differs from run to run.
    let text = text.split('(').map(|part| match part.split_once(".yaml:") {
        Some((_, rest)) => format!("f:{rest}"),
        None => part.to_owned(),
    });
    assert_eq!(text.collect::<Vec<_>>().join("("), expected);
}

#[test]
fn the_line_that_decides() {
    check(
        "web",
        "db:5432",
        "allowed: shop/web (10.244.1.5) -> shop/db (10.244.2.7) TCP 5432
  egress: allowed: no policy isolates shop/web
  ingress: allowed: by shop/db
    shop/db spec.ingress[0].from[1].ports[0] (f:34)
    isolated by shop/db
",
    );
}

#[test]
fn why_not() {
    check(
        "shop/web",
        "data:80",
        "allowed: shop/web (10.244.1.5) -> shop/db (10.244.2.7) TCP 5432
  egress: allowed: no policy isolates shop/web
  ingress: allowed: by shop/db
    shop/db spec.ingress[0].from[1].ports[0] (f:34)
    isolated by shop/db
",
    );
    check(
        "10.9.9.9",
        "db:80",
        "denied: 10.9.9.9 -> shop/db (10.244.2.7) TCP 80
  egress: allowed: no pod of the cluster's network is on this side
  ingress: denied: shop/db is isolated by shop/db, and no rule allows this
    isolated by shop/db
    not shop/db spec.ingress[0] (f:32): from: 10.9.9.9, no pod's is not in [192.0.2.0/24; pods {app=web} in namespace shop]; ports: TCP/80 is not in [TCP/sql (5432 of shop/db)]
",
    );
}

#[test]
fn no_answer() {
    check("nobody", "db:80", "error: --from: there is no pod shop/nobody\n");
    check("we", "db:80", "error: --from: there is no pod shop/we; there are shop/web\n");
    check(
        "a/web",
        "db:80",
        "error: --from: there is no pod a/web, but there is shop/web: write it so, or give --namespace\n",
    );
    check("web", "db", "error: --to: \"db\" has no port: write name:port[/protocol]\n");
    check("web", "data:81", "error: --to: service shop/data has no port 81/TCP; it has 80/TCP\n");
}

#[test]
fn tables() {
    let objects = shop();
    assert_eq!(show::list(&objects), "NAMESPACE   NAME   TYPES     PODS\nshop        db     Ingress   1\n");
    let shown = show::pod(&objects, &objects::Key::new("shop", "db"));
    assert!(shown.starts_with("ingress: isolated by shop/db\negress: not isolated, everything is allowed\nPOLICY"));
    assert!(shown.contains("from 192.0.2.0/24; pods {app=web} in namespace shop ports TCP/sql"), "{shown}");
    let pods: Vec<String> = objects.pods.keys().map(ToString::to_string).collect();
    assert_eq!(pods, ["shop/api", "shop/db", "shop/web"]);
}

#[test]
fn bad_yaml_names_its_line() {
    let mut objects = source::Objects::default();
    let error = source::documents(&mut objects, "f.yaml", "kind: Pod\n---\nkind: [\n").expect_err("this is no YAML");
    assert!(format!("{error:#}").starts_with("f.yaml:"), "{error:#}");
}
