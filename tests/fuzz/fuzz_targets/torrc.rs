//! A torrc, as a user or a controller (`+LOADCONF`) gives it: read, translated, written, and read
//! again.

#![no_main]

use cepa_torrc::Settings;
use cepa_torrc::dump::{Which, dump};
use cepa_torrc::include::{self, Files, Kind};
use cepa_torrc::settings::Empty;
use cepa_torrc::translate::{World, translate};

/// A folder with one file, which includes itself.
struct Few;

impl Files for Few {
    fn kind(&self, path: &str) -> Option<Kind> {
        match path {
            "/d" => Some(Kind::Folder),
            "/d/a" => Some(Kind::File),
            _ => None,
        }
    }

    fn names(&self, _: &str) -> Vec<String> {
        vec!["a".to_owned()]
    }

    fn read(&self, _: &str) -> Result<String, String> {
        Ok("%include /d/*\nNickname a\n".to_owned())
    }
}

fn read(text: &str) -> Option<Settings> {
    let entries = include::read("torrc", text, &Few).ok()?;
    Settings::read(&[entries]).ok()
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let Some(settings) = read(&text) else {
        return;
    };
    let world = World {
        home: Some("/home/user".to_owned()),
        network: None,
        has_client: false,
        files: &Few,
    };
    if let Ok(translated) = translate(&settings, &world) {
        let _ = translated.document.text();
    }
    let _ = dump(&settings, Which::Full);
    // What is written is read back the same.
    let written = dump(&settings, Which::Short);
    let again = read(&written).expect("what was written can be read");
    assert_eq!(dump(&again, Which::Short), written);
    // A controller's change of the first option.
    if let Some((name, value)) = text.split_once(' ') {
        let _ = settings.changed(&[(name.to_owned(), value.to_owned())], Empty::Default);
    }
});
