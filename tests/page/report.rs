//! `rstore report`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::driver::{Browser, NEEDS};
use crate::need::skip_without;
use crate::sample::{Everything, Image, Recipe, Sample};

const HOSTILE: &str = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'\"&`${1}\u{202e}\u{2028}";

/// The sample with a hundred images more, of strangers' making, and a file that is nobody's.
fn store() -> Everything {
    let everything = Everything::new();
    let store = &everything.sample;
    let mut tags = vec![
        ("base:latest", everything.base),
        ("app:latest", everything.app),
        ("app:1", everything.app),
    ];
    let own = store.layer("hostile", 300_000);
    let strange = store.image(&Recipe {
        layers: &[own],
        steps: &[HOSTILE],
        labels: &[("label", HOSTILE), (HOSTILE, "x")],
        ..Recipe::default()
    });
    tags.push((HOSTILE, strange));
    let names: Vec<String> = (0..100).map(|n| format!("many/app{n}:latest")).collect();
    for (n, name) in names.iter().enumerate() {
        let layer = store.layer(&format!("layer{n}"), 5_000 + 700 * n);
        let image = store.image(&Recipe {
            layers: &[layer],
            steps: &[&format!("COPY part{n} /")],
            ..Recipe::default()
        });
        tags.push((name, image));
    }
    store.write_index(&tags);
    let nobodys = OsStr::from_bytes(b"\xff<img src=x>");
    fs::write(store.root().join(nobodys), [1; 100_000]).unwrap();
    everything
}

/// The page of a store, in a browser.
fn opened(store: &Sample, browser: &Browser) -> PathBuf {
    let page = store.root().with_file_name("report.html");
    let run = store.ok(&["report", "-o", page.to_str().unwrap()]);
    assert_eq!(run, "");
    browser.open(&page);
    page
}

/// What stands in the page as data.
fn data(browser: &Browser) -> Value {
    browser.run(
        "return JSON.parse(document.getElementById('data').textContent)",
        (),
    )
}

fn hex(image: &Image) -> String {
    image.id.hex()
}

/// For each part of what the map shows: its name, its share of the bytes, its share of the area.
const SHARES: &str = "
    const box = document.getElementById('map').viewBox.baseVal;
    const tiles = [...document.querySelectorAll('#map rect.tile')];
    const all = tiles.reduce((sum, tile) => sum + Number(tile.dataset.bytes), 0);
    const parts = new Map();
    for (const tile of tiles) {
      const part = parts.get(tile.way[0].name) || [0, 0];
      part[0] += Number(tile.dataset.bytes);
      part[1] += tile.width.baseVal.value * tile.height.baseVal.value / (box.width * box.height);
      parts.set(tile.way[0].name, part);
    }
    return [all, [...parts].map(([name, [bytes, area]]) => [name, bytes, area])];";

#[test]
fn areas_are_bytes_and_add_up_to_what_df_says() {
    if skip_without(NEEDS) {
        return;
    }
    let everything = store();
    let browser = Browser::start(1280, 900);
    everything.sample.ok(&["df"]);
    let usage = everything.sample.json(&["df", "--format", "json"]);
    opened(&everything.sample, &browser);
    let data = data(&browser);
    assert_eq!(data["total"], usage["total"]);
    assert_eq!(data["tree"]["bytes"], usage["total"]);
    let total = usage["total"].as_u64().unwrap();

    let shares = browser.run(SHARES, ());
    assert_eq!(shares[0], usage["total"], "every byte is drawn once");
    let parts = shares[1].as_array().unwrap();
    let mut drawn = 0;
    for row in usage["rows"].as_array().unwrap() {
        let bytes = row["size"].as_u64().unwrap();
        let shown = data["rows"].as_array().unwrap().iter();
        let title = shown
            .clone()
            .find(|kind| kind["type"] == row["type"])
            .map(|kind| kind["title"].clone());
        let part = title.and_then(|title| parts.iter().find(|part| part[0] == title));
        let Some(part) = part.filter(|_| bytes > 0) else {
            assert_eq!(bytes, 0, "{row} is not in the map");
            continue;
        };
        drawn += 1;
        assert_eq!(part[1], row["size"], "{row}");
        let share = part[2].as_f64().unwrap();
        let expected = bytes as f64 / total as f64;
        assert!((share - expected).abs() < 0.001, "{row}: {share}");
    }
    assert!(drawn >= 4 && drawn == parts.len(), "{parts:?}");

    // One level further in the layers fill the map.
    browser.run(
        "[...document.querySelectorAll('#parts button')].find((b) => b.textContent === 'Layers').click()",
        (),
    );
    let rows = usage["rows"].as_array().unwrap();
    let layers = rows.iter().find(|row| row["type"] == "layers").unwrap();
    let inside = browser.run(SHARES, ());
    assert_eq!(inside[0], layers["size"]);
    let area: f64 = inside[1]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part[2].as_f64().unwrap())
        .sum();
    assert!((area - 1.0).abs() < 0.001, "{area}");
    browser.run("document.querySelector('#crumbs button').click()", ());
    assert_eq!(browser.run(SHARES, ())[0], usage["total"]);
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn what_each_prune_would_free_is_what_its_dry_run_says() {
    if skip_without(NEEDS) {
        return;
    }
    let everything = store();
    let browser = Browser::start(1280, 900);
    opened(&everything.sample, &browser);
    let data = data(&browser);
    let prunes = data["prunes"].as_array().unwrap();
    assert!(prunes.len() >= 4, "{prunes:?}");
    for prune in prunes {
        let command = prune["command"].as_str().unwrap();
        let mut arguments: Vec<&str> = command.split(' ').skip(1).collect();
        arguments.extend(["-n", "--format", "json"]);
        let plan = everything.sample.json(&arguments);
        assert_eq!(plan["plan"]["totals"]["freed"], prune["freed"], "{command}");
    }
    let all = prunes.last().unwrap();
    let sum = |table: &Value, key: &str| -> u64 {
        let rows = table.as_array().unwrap().iter();
        rows.map(|row| row[key].as_u64().unwrap()).sum()
    };
    assert_eq!(sum(&data["rows"], "reclaimable"), all["freed"]);
}

#[test]
fn a_click_on_an_image_shows_its_layers_and_from_there_who_shares_them() {
    if skip_without(NEEDS) {
        return;
    }
    let everything = store();
    let browser = Browser::start(1280, 900);
    opened(&everything.sample, &browser);
    // The largest thing is named at first sight, beside the map.
    browser.click("#parts h3 + ol button");
    browser.wait("document.getElementById('details').open");
    let title = browser.run("return document.getElementById('what').textContent", ());
    assert!(title.as_str().unwrap().starts_with("</script>"), "{title}");
    browser.click("#details .top button");

    browser.type_into("#find", "app:latest base");
    browser.wait("document.getElementById('found').textContent.startsWith('0 images')");
    browser.run("document.getElementById('find').value = ''", ());
    browser.type_into("#find", &hex(&everything.app));
    browser.wait("document.getElementById('found').textContent.startsWith('1 images')");
    browser.click("#images tbody button");
    browser.wait("document.getElementById('details').open");
    let title = browser.run("return document.getElementById('what').textContent", ());
    assert_eq!(title, "app:latest, app:1");
    let rows =
        "return [...document.querySelectorAll('#details tbody tr')].map((row) => row.textContent)";
    let layers = browser.run(rows, ());
    let layers = layers.as_array().unwrap();
    assert_eq!(layers.len(), 2, "{layers:?}");
    // Its own binary's layer, and what no other tag has: not the steps that it was made from.
    let facts = browser.run(
        "return document.querySelector('#details .facts').textContent",
        (),
    );
    assert!(
        facts
            .as_str()
            .unwrap()
            .contains("that no other image which is kept holds"),
        "{facts}"
    );
    // The system, which all five images on it share.
    assert!(
        layers[0].as_str().unwrap().contains("5 images"),
        "{layers:?}"
    );
    browser.click("#details tbody button");
    let holders = browser.run(rows, ()).to_string();
    assert!(
        holders.contains("base:latest") && holders.contains("RUN make"),
        "{holders}"
    );
    browser.click("#details .top button");
    browser.wait("!document.getElementById('details').open");
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn the_search_finds_a_digest_everywhere_it_is() {
    if skip_without(NEEDS) {
        return;
    }
    let everything = store();
    let browser = Browser::start(1280, 900);
    opened(&everything.sample, &browser);
    let lit = "return document.querySelectorAll('#map rect.tile:not(.dim)').length";
    let before = browser.run(lit, ()).as_u64().unwrap();
    // An image is found with all that it consists of.
    browser.type_into("#find", "many/app9");
    browser.wait("document.getElementById('found').textContent.startsWith('11 images')");
    assert!(browser.run(lit, ()).as_u64().unwrap() >= 11);
    browser.run("document.getElementById('find').value = ''", ());
    browser.type_into("#find", &everything.old_layer.digest.to_string());
    browser.wait(
        "document.getElementById('found').textContent === '0 images, 1 layers, 0 log entries'",
    );
    let row = browser.run(
        "return document.querySelector('#layers tbody').textContent",
        (),
    );
    let digest = everything.old_layer.digest.short();
    assert!(row.as_str().unwrap().contains(&digest), "{row}");
    assert!(before > 20);
    assert_eq!(browser.run(lit, ()), 1);
    browser.tools(
        "Input.dispatchKeyEvent",
        serde_json::json!({ "type": "keyDown", "key": "Escape", "code": "Escape" }),
    );
    browser.wait("document.getElementById('found').textContent === ''");
    assert_eq!(browser.run(lit, ()), before);
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn tables_sort_by_what_is_clicked() {
    if skip_without(NEEDS) {
        return;
    }
    let everything = store();
    let browser = Browser::start(1280, 900);
    opened(&everything.sample, &browser);
    let data = data(&browser);
    let mut sizes: Vec<u64> = data["images"]["shown"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["size"].as_u64().unwrap())
        .collect();
    sizes.sort_unstable();
    let first = "return document.querySelector('#images tbody tr td:nth-child(7)').textContent";
    let heads = "#images th:nth-child(7) button";
    browser.click(heads);
    let largest = browser.run(first, ());
    let order = "return document.querySelector('#images th:nth-child(7)').ariaSort";
    assert_eq!(browser.run(order, ()), "descending");
    browser.click(heads);
    assert_eq!(browser.run(order, ()), "ascending");
    let least = browser.run(first, ());
    let shown = |bytes: u64| rstore::cli::render::size::short(bytes);
    assert_eq!(
        (largest, least),
        (shown(*sizes.last().unwrap()).into(), shown(sizes[0]).into())
    );
    // What they are chooses too.
    let choose = "const s = document.querySelector('#images select'); s.value = arguments[0]; \
                  s.dispatchEvent(new Event('change'))";
    browser.run(choose, "dangling");
    let text = browser.run(
        "return document.querySelector('#images tbody').textContent",
        (),
    );
    assert!(text.as_str().unwrap().contains("RUN make old"), "{text}");
    browser.run(choose, "");
    // Not all are in the document at first.
    let count = "return document.querySelectorAll('#images tbody tr').length";
    assert_eq!(browser.run(count, ()), 50);
    browser.click("#images .more button");
    assert_eq!(browser.run(count, ()), sizes.len());
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn what_strangers_wrote_is_shown_and_not_run() {
    if skip_without(NEEDS) {
        return;
    }
    let everything = store();
    let browser = Browser::start(1280, 900);
    opened(&everything.sample, &browser);
    assert_eq!(
        browser.run(
            "return document.querySelectorAll('img, b img, script').length",
            ()
        ),
        2,
        "the page's own data and script"
    );
    browser.type_into("#find", "onerror");
    browser.wait("document.getElementById('found').textContent.startsWith('1 images, 1 layers')");
    browser.click("#images tbody button");
    browser.wait("document.getElementById('details').open");
    let shown = browser.run("return document.getElementById('details').textContent", ());
    assert!(
        shown.as_str().unwrap().contains("</script><script>"),
        "{shown}"
    );
    let title = browser.run("return document.title", ());
    assert!(title.as_str().unwrap().starts_with("rstore: /"), "{title}");
    let tree = data(&browser)["tree"].to_string();
    assert!(tree.contains("\u{fffd}<img src=x>"), "{tree}");
    // Nor would it be, were it there: the page's policy says so, and is alone in saying something.
    browser.run(
        "const script = document.createElement('script');
         script.textContent = 'document.title = \"owned\"';
         document.body.append(script);
         document.body.insertAdjacentHTML('beforeend', '<img src=\"http://127.0.0.1:9/x\">');",
        (),
    );
    assert_eq!(browser.run("return document.title", ()), title);
    browser.wait("document.images.length === 1 && document.images[0].complete");
    let said = browser.console();
    assert!(
        said.len() == 2
            && said
                .iter()
                .all(|line| line.contains("Content Security Policy")),
        "{said:?}"
    );
}

/// Texts smaller than this are not for phones.
const LEAST_TEXT: f64 = 11.9;

#[test]
fn the_page_fits_a_phone_and_the_dark() {
    if skip_without(NEEDS) {
        return;
    }
    let everything = store();
    let browser = Browser::start(1280, 900);
    opened(&everything.sample, &browser);
    let paper = "return getComputedStyle(document.body).backgroundColor";
    for (width, height) in [(360, 740), (768, 1024), (1280, 900)] {
        browser.resize(width, height);
        browser.wait(&format!("innerWidth === {width}"));
        // The map is drawn anew a moment after the window has changed.
        browser.wait("document.getElementById('map').viewBox.baseVal.width <= innerWidth");
        let found = browser.run(
            "const least = Math.min(...[...document.querySelectorAll('body *')]
               .filter((e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
               .map((e) => parseFloat(getComputedStyle(e).fontSize)));
             const page = document.documentElement;
             return [page.scrollWidth - page.clientWidth, least];",
            (),
        );
        assert_eq!(found[0], 0, "wider than {width}");
        assert!(found[1].as_f64().unwrap() >= LEAST_TEXT, "{found}");
    }
    let mut papers = Vec::new();
    for scheme in ["light", "dark"] {
        browser.scheme(scheme);
        papers.push(browser.run(paper, ()));
        // Text stands out from what it stands on, in the page and in the map (WCAG 2, 4.5:1).
        let contrast = browser.run(CONTRAST, ());
        assert!(contrast.as_f64().unwrap() >= 4.5, "{scheme}: {contrast}");
    }
    assert_eq!(papers, ["rgb(255, 255, 255)", "rgb(20, 23, 26)"]);
    browser.click("#theme");
    assert_eq!(
        browser.run(paper, ()),
        papers[0],
        "the button says otherwise"
    );
    assert_eq!(browser.console(), [""; 0]);
}

/// The least contrast of the page's text with its ground, and of the map's with every colour there.
const CONTRAST: &str = "
    const light = (color) => {
      const [r, g, b] = color.match(/[\\d.]+/g).map((n) => Number(n) / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const between = (one, other) => {
      const [a, b] = [light(one), light(other)].sort((x, y) => y - x);
      return (a + 0.05) / (b + 0.05);
    };
    const of = (selector, property) => getComputedStyle(document.querySelector(selector))[property];
    const paper = of('body', 'backgroundColor');
    const texts = ['body', '.left, .count', 'h1 .root', 'button.link', '.figures dd'].map((s) => of(s, 'color'));
    const tiles = [...document.querySelectorAll('.swatch')].map((s) => getComputedStyle(s).backgroundColor);
    const ink = of('#map text', 'fill');
    return Math.min(...texts.map((text) => between(text, paper)), ...tiles.map((tile) => between(ink, tile)));";
