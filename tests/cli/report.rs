//! `rstore report` without a browser; `tests/page` has it in one.

use std::fs;

use serde_json::Value;

use crate::sample::{Everything, Recipe, Sample};

/// What the page has as data.
fn data(page: &str) -> Value {
    let (_, json) = page.split_once("id=\"data\">").expect("data");
    let (json, _) = json.split_once("</script>").expect("an end");
    serde_json::from_str(json).expect("JSON")
}

/// Whether the areas in an area fill it, down to the last.
fn is_filled(tile: &Value) -> bool {
    let Some(tiles) = tile["tiles"].as_array() else {
        return true;
    };
    let bytes = tiles.iter().map(|tile| tile["bytes"].as_u64().unwrap());
    bytes.sum::<u64>() == tile["bytes"].as_u64().unwrap() && tiles.iter().all(is_filled)
}

#[test]
fn report_goes_to_a_file_whole_or_to_stdout() {
    let store = Everything::new().sample;
    let path = store.root().with_file_name("report.html");
    let text = path.to_str().unwrap();
    assert_eq!(store.ok(&["report", "-o", text]), "");
    let page = fs::read_to_string(&path).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    assert_eq!(data(&page)["schema"], 1);
    let printed = store.ok(&["report", "-o", "-"]);
    assert_eq!(data(&printed)["images"], data(&page)["images"]);

    let nowhere = store.rstore(&["report", "-o", "/nonexistent/report.html"]);
    assert_eq!(nowhere.code, 1);
    assert!(
        nowhere.stderr.contains("/nonexistent"),
        "{}",
        nowhere.stderr
    );
    let beside = fs::read_dir(path.parent().unwrap()).unwrap();
    assert_eq!(beside.count(), 2, "the store and the page");
    assert_eq!(store.rstore(&["report"]).code, 2);
}

#[test]
fn a_report_of_a_large_store_has_what_is_largest_and_says_what_it_leaves_out() {
    let store = Sample::new();
    let base = store.layer("base", 50_000);
    for number in 0..3_050 {
        store.image(&Recipe {
            layers: &[base],
            steps: &[&format!("RUN {number} {}", "long ".repeat(200))],
            ..Recipe::default()
        });
    }
    let own = store.layer("own", 200_000);
    let app = store.image(&Recipe {
        layers: &[base, own],
        ..Recipe::default()
    });
    store.write_index(&[("app:latest", app)]);
    let page = store.ok(&["report", "-o", "-"]);
    assert!(page.len() < 15 << 20, "{}", page.len());
    let data = data(&page);
    let images = data["images"]["shown"].as_array().unwrap();
    assert_eq!(images[0]["names"][0], "app:latest");
    assert_eq!((images.len(), &data["images"]["left"]), (3_000, &51.into()));
    assert!(page.contains("51 more images"));
    assert!(images[1]["step"].as_str().unwrap().chars().count() <= 300);
    assert_eq!(data["tree"]["bytes"], data["total"]);
    assert!(is_filled(&data["tree"]));
}

#[test]
fn a_store_that_cannot_be_pruned_can_be_reported() {
    let everything = Everything::new();
    let store = &everything.sample;
    fs::write(store.blobs().join(everything.app.digest.hex()), "{").unwrap();
    let page = store.ok(&["report", "-o", "-"]);
    let digest = everything.app.digest.to_string();
    assert!(page.contains("Nothing can be pruned") && page.contains(&digest));
    assert!(is_filled(&data(&page)["tree"]));
}
