//! What pictures are drawn with.

use crate::report::words::escaped;
use std::fmt::Write;

/// Colours by class. The families' are those of Okabe and Ito (2008), which people tell apart who see
/// few colours; on dark ground they are lighter.
const STYLE: &str = "\
text{font:11px system-ui,sans-serif;fill:#333}\
.title{font-size:15px;font-weight:600}.soft{fill:#777}.bold{font-weight:600}\
.ground{fill:#fff}.kept{fill:#4a6d8c}.gone{fill:#e6e6e6}.grid{stroke:#ddd}.axis{stroke:#999}.mark{stroke:#333;stroke-dasharray:3 3}\
.whisker{stroke:#333;opacity:.55}.other{stroke:#333;stroke-width:2}\
line,path{stroke-width:1;fill:none}path{stroke-width:2}\
.knowledge{fill:#0072b2;stroke:none}.retrieval{fill:#d55e00}.reasoning{fill:#009e73}.language{fill:#b0569a}\
path.knowledge{stroke:#0072b2}path.retrieval{stroke:#d55e00}path.reasoning{stroke:#009e73}path.language{stroke:#b0569a}\
path{fill:none!important}\
@media(prefers-color-scheme:dark){text{fill:#ddd}.soft{fill:#999}.ground{fill:#16181c}.kept{fill:#7fa8cc}.gone{fill:#2b2e34}.grid{stroke:#333}\
.axis{stroke:#777}.mark,.whisker,.other{stroke:#ccc}\
.knowledge{fill:#56b4e9}.retrieval{fill:#f0803c}.reasoning{fill:#2fc79a}.language{fill:#dd8fc4}\
path.knowledge{stroke:#56b4e9}path.retrieval{stroke:#f0803c}path.reasoning{stroke:#2fc79a}path.language{stroke:#dd8fc4}}";

/// Which end of a text stands at its place.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture in the making; y grows downwards.
pub(super) struct Canvas {
    width: f64,
    height: f64,
    body: String,
}

impl Canvas {
    pub fn new(width: f64, height: f64) -> Self {
        Self {
            width,
            height,
            body: String::new(),
        }
    }

    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = writeln!(
            self.body,
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{}</text>"#,
            escaped(text)
        );
    }

    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(
            self.body,
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}"/>"#
        );
    }

    /// A rectangle that says something when it is pointed at.
    pub fn bar(&mut self, at: (f64, f64), size: (f64, f64), style: (&str, f64), says: &str) {
        let ((x, y), (width, height), (class, opacity)) = (at, size, style);
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" class="{class}" opacity="{opacity:.2}"><title>{}</title></rect>"#,
            escaped(says)
        );
    }

    pub fn path(&mut self, points: &[(f64, f64)], class: &str) {
        let mut d = String::new();
        for (i, (x, y)) in points.iter().enumerate() {
            let _ = write!(d, "{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
        }
        let _ = writeln!(self.body, r#"<path d="{d}" class="{class}"/>"#);
    }

    pub fn dot(&mut self, (x, y): (f64, f64), class: &str, says: &str) {
        let _ = writeln!(
            self.body,
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" class="{class}"><title>{}</title></circle>"#,
            escaped(says)
        );
    }

    /// The file.
    pub fn finish(self) -> String {
        let (width, height, body) = (self.width, self.height, self.body);
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">
<style>{STYLE}</style>
<rect width="{width}" height="{height}" class="ground"/>
{body}</svg>
"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_like_markup_stay_text() {
        let mut canvas = Canvas::new(10.0, 10.0);
        canvas.text(0.0, 0.0, Anchor::Start, "", "<script>&</script>");
        let svg = canvas.finish();
        assert!(svg.contains("&lt;script&gt;&amp;&lt;/script&gt;") && !svg.contains("<script"));
    }
}
