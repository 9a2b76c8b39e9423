//! What man(7) wants to be told.

/// `text` as roff reads it literally.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '"' => out.push_str("\\(dq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            '.' if out.is_empty() || out.ends_with('\n') => out.push_str("\\&."),
            _ => out.push(letter),
        }
    }
    out
}

/// A page under way.
#[derive(Default)]
pub(crate) struct Page(String);

impl Page {
    /// A page called `name` in `section`.
    pub(crate) fn new(name: &str, section: u8, date: &str, volume: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let mut page = Self(String::from(".\\\" Made by tests/manual from the program itself.\n"));
        page.line(&format!(".TH {} {section} {date} \"filmgate {version}\" \"{volume}\"", name.to_uppercase()));
        page
    }

    /// A line that is roff already.
    pub(crate) fn line(&mut self, roff: &str) {
        self.0.push_str(roff);
        self.0.push('\n');
    }

    /// A section.
    pub(crate) fn section(&mut self, title: &str) {
        self.line(&format!(".SH {title}"));
    }

    /// A part of a section.
    pub(crate) fn part(&mut self, title: &str) {
        self.line(&format!(".SS \"{}\"", escaped(title)));
    }

    /// Words, each of their lines as it is.
    pub(crate) fn text(&mut self, words: &str) {
        self.line(&escaped(words));
    }

    /// A further paragraph.
    pub(crate) fn paragraph(&mut self, words: &str) {
        self.line(".PP");
        self.text(words);
    }

    /// An entry of a list, its head in roff.
    pub(crate) fn entry(&mut self, head: &str, words: &str) {
        self.line(".TP");
        self.line(head);
        self.text(words);
    }

    /// Lines as they stand.
    pub(crate) fn example(&mut self, lines: &str) {
        self.line(".PP");
        self.line(".RS 4");
        self.line(".nf");
        self.text(lines);
        self.line(".fi");
        self.line(".RE");
    }

    /// The whole of it.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

/// `text` in bold.
pub(crate) fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", escaped(text))
}

/// `text` as something to be replaced.
pub(crate) fn placeholder(text: &str) -> String {
    format!("\\fI{}\\fR", escaped(text))
}
