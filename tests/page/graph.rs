//! `rstore graph`: its page in a browser, its dot in graphviz.

use crate::driver::{Browser, NEEDS, filtered};
use crate::need::{Need, program, skip_without};
use crate::sample::{Everything, Recipe, Sample};

/// A store of 500 images: lines of steps of unlike length on five bases.
fn five_hundred() -> Sample {
    let store = Sample::new();
    let layer = store.layer("bin", 100);
    let mut tags = Vec::new();
    let mut made = 0;
    let mut image = |step: &str, parent| {
        made += 1;
        store.image(&Recipe {
            layers: &[layer],
            steps: &[step],
            parent,
            ..Recipe::default()
        })
    };
    let names: Vec<String> = (0..50).map(|n| format!("team{}/app{n}:1", n % 7)).collect();
    for (n, name) in names.iter().enumerate() {
        let mut parent = None;
        if n % 10 != 0 {
            let (_, base) = tags[n / 10 * 10];
            parent = Some(base);
        }
        for step in 0..1 + (n * 7) % 18 {
            parent = Some(image(
                &format!("RUN make -C part{n} step-{step} && make install"),
                parent,
            ));
        }
        let app = image(&format!("CMD [\"/app{n}\"]"), parent);
        tags.push((name.as_str(), app));
    }
    let named = tags.last().map(|(_, image)| *image);
    while made < 500 {
        made += 1;
        let step = format!("RUN loose {made}");
        store.image(&Recipe {
            layers: &[layer],
            steps: &[&step],
            parent: named,
            ..Recipe::default()
        });
    }
    store.write_index(&tags);
    store
}

#[test]
fn five_hundred_images_are_drawn_without_one_text_on_another() {
    if skip_without(NEEDS) {
        return;
    }
    let store = five_hundred();
    let page = store.root().with_file_name("graph.html");
    let browser = Browser::start(1280, 900);
    for (arguments, least) in [
        (&["graph", "--format", "html", "--no-trunc"][..], 500),
        (&["graph", "--format", "html"], 150),
    ] {
        std::fs::write(&page, store.ok(arguments)).unwrap();
        browser.open(&page);
        let count = browser.run("return document.querySelectorAll('.row').length", ());
        assert!(count.as_u64().unwrap() >= least, "{count}");
        assert!(least != 150 || count.as_u64().unwrap() < 500, "{count}");
        let overlaps = browser.run(
            "const boxes = [...document.querySelectorAll('svg text')].map((t) => t.getBBox());
             const marks = [...document.querySelectorAll('svg .mark')].map((m) => m.getBBox());
             const over = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width &&
               a.y + 0.5 < b.y + b.height && b.y + 0.5 < a.y + a.height;
             let hits = 0;
             boxes.forEach((a, n) => {
               boxes.slice(n + 1).forEach((b) => { hits += over(a, b); });
               marks.forEach((b) => { hits += over(a, b); });
             });
             const svg = document.querySelector('svg').viewBox.baseVal;
             return [hits, boxes.filter((b) => b.x + b.width > svg.width).length];",
            (),
        );
        assert_eq!(overlaps, serde_json::json!([0, 0]), "{arguments:?}");
    }
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn a_step_that_is_folded_away_is_found_and_the_picture_grows() {
    if skip_without(NEEDS) {
        return;
    }
    let store = five_hundred();
    let page = store.root().with_file_name("graph.html");
    std::fs::write(&page, store.ok(&["graph", "--format", "html"])).unwrap();
    let whole = store.json(&["graph", "--format", "json"]);
    let text = std::fs::read_to_string(&page).unwrap();
    let browser = Browser::start(1280, 900);
    browser.open(&page);
    let hidden = whole["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|node| node["id"].as_str()?.strip_prefix("sha256:"))
        .find(|id| text.contains(&format!(" {id}")))
        .expect("something is folded");
    browser.type_into("#find", hidden);
    browser.wait("document.getElementById('found').textContent === '1 shown'");
    let lit = browser.run(
        "return document.querySelector('.row:not(.dim)').textContent",
        (),
    );
    assert!(lit.as_str().unwrap().contains("more steps"), "{lit}");
    let width = "return document.querySelector('svg').getBoundingClientRect().width";
    let before = browser.run(width, ()).as_f64().unwrap();
    browser.click("#larger");
    assert!(browser.run(width, ()).as_f64().unwrap() > before * 1.2);
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn graphviz_draws_what_dot_says() {
    if skip_without(&[Need::Program("dot")]) {
        return;
    }
    let hostile = Sample::new();
    let image = hostile.image(&Recipe {
        steps: &["RUN echo \"\\\" ]; } digraph { \\N \\\\ <b>&amp; \u{1b}[2J"],
        ..Recipe::default()
    });
    hostile.write_index(&[("na\"me\\", image)]);
    for (store, least) in [
        (hostile, 1),
        (Everything::new().sample, 5),
        (five_hundred(), 500),
    ] {
        let dot = store.ok(&["graph", "--format", "dot"]);
        let svg = filtered(program("dot").arg("-Tsvg"), &dot);
        // Its own document type is no part of the picture.
        let (_, svg) = svg.split_once("<svg").unwrap();
        let nodes = svg.matches("class=\"node\"").count();
        assert!(nodes >= least, "{nodes}");
    }
}
