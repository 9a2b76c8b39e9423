use proptest::prelude::*;

use super::*;

const CONTENT_TYPE: &[u8] = b"multipart/form-data; boundary=AaB03x";

/// What was read: fields, bytes of the head, and `${filename}` expanded.
type Read = (Vec<(String, String)>, usize, String);

fn read(body: &[u8]) -> Result<Option<Read>, FormError> {
    let boundary = Boundary::of(CONTENT_TYPE).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let form = Form::read(&boundary, body)?;
    Ok(form.map(|form| {
        let fields = form.fields().map(|field| (text(field.name), text(field.value))).collect();
        (fields, form.head_bytes(), text(&form.expanded(b"${filename}")))
    }))
}

/// Reads a body whole, byte by byte and with more behind it; all must say the same.
fn read_every_way(body: &[u8]) -> Result<Option<Read>, FormError> {
    let whole = read(body);
    for end in 0..body.len() {
        match read(&body[..end]) {
            Ok(None) => {}
            early => assert_eq!(early, whole, "after {end} bytes"),
        }
    }
    if whole != Ok(None) {
        for more in [&b"\r\n--AaB03x"[..], b"\0\xff", b"x"] {
            assert_eq!(read(&[body, more].concat()), whole);
        }
    }
    whole
}

/// A body in which `\n` stands for CRLF and `~` for a bare line feed.
fn lines(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").replace('~', "\n").into_bytes()
}

const FILE: &str = "--AaB03x\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mov\"\n\n";

fn field(name: &str, value: &str) -> String {
    format!("--AaB03x\nContent-Disposition: form-data; name=\"{name}\"\n\n{value}\n")
}

#[test]
fn fields_are_read_up_to_the_file() {
    let body =
        lines(&[&field("key", "a/${filename}"), &field("x-amz-meta-é", ""), &field("t", "1\n\n2~"), FILE].concat());
    let fields = [("key", "a/${filename}"), ("x-amz-meta-é", ""), ("t", "1\r\n\r\n2\n")];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    assert_eq!(read_every_way(&body), Ok(Some((fields, body.len(), "a.mov".into()))));
}

#[test]
fn parts_are_understood_as_clients_write_them() {
    let table = [
        ("name=\"file\"", "${filename}"),
        ("name=file", "${filename}"),
        ("name=\"FILE\"; filename=\"\"", ""),
        ("filename=\"a b;c.mov\"; name=\"file\"", "a b;c.mov"),
        ("name=file; filename=a.mov; filename*=utf-8''b.mov", "a.mov"),
        ("name=\"file\" ; filename=\"a.mov\" ;", "a.mov"),
        ("name=\"file\";filename=\"C:\\fakepath\\a.mov\"", "a.mov"),
        ("name=\"file\";filename=\"../../a.mov\"", "a.mov"),
        ("name=\"file\";filename=\"dir/\"", ""),
        ("name=\"file\";filename=\"say \\\"a\\\".mov\"", "say \"a\".mov"),
        ("name=\"file\";filename=\"b/say \\\"a\\\".mov\"", "say \"a\".mov"),
        ("name=\"file\";filename=\"%22é%22.mov\"", "%22é%22.mov"),
        ("name=\"file\";filename=\"${filename}\"", "${filename}"),
        ("NAME=\"file\"; FileName=\"a.mov\"", "a.mov"),
    ];
    for (parameters, name) in table {
        for extra in
            ["", "Content-Type: video/quicktime\n", "content-length: 9\nContent-Transfer-Encoding: binary\nX-Y:\n"]
        {
            let body = lines(&format!("--AaB03x\n{extra}content-disposition: Form-Data; {parameters}\n\n"));
            assert_eq!(read_every_way(&body), Ok(Some((Vec::new(), body.len(), name.into()))), "{parameters}");
        }
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let part = |head: &str| format!("--AaB03x\n{head}\n\n");
    let named = |parameters: &str| part(&format!("Content-Disposition: form-data{parameters}"));
    let table: Vec<(String, &str)> = vec![
        ("\n--AaB03x\n".into(), "begin with its boundary"),
        ("preamble\n--AaB03x\n".into(), "begin with its boundary"),
        ("--aAb03X\n".into(), "begin with its boundary"),
        ("--AaB03x \n".into(), "end of its line"),
        ("--AaB03x~x".into(), "end of its line"),
        ("--AaB03xy\n".into(), "end of its line"),
        ("--AaB03x-x".into(), "end of its line"),
        ("--AaB03x\n\nvalue".into(), "no Content-Disposition"),
        (part("Content-Type: text/plain"), "no Content-Disposition"),
        (part("Content-Disposition: form-data; name=a~"), "CRLF"),
        (part("Content-Disposition: form-data;~ name=file"), "CRLF"),
        (part("Content-Disposition: form-data; name=a;\n name=file"), "not a field"),
        (part("Content-Disposition: form-data;\n name=file"), "no name"),
        (part("Content-Disposition : form-data; name=file"), "not a field"),
        (part(" Content-Disposition: form-data; name=file"), "not a field"),
        (part("Content-Disposition: form-data; name=fi\0le"), "not a field"),
        (part("Content-Disposition: form-data; name=file\r"), "not a field"),
        (part("no field"), "not a field"),
        (part(": form-data; name=file"), "not a field"),
        (part("Content-Disposition: attachment; name=file"), "not form-data"),
        (part("Content-Disposition: file; name=file"), "not form-data"),
        (part("Content-Disposition: form-data name=file"), "not form-data"),
        (part("Content-Disposition: form-data; name=a\nContent-Disposition: form-data; name=file"), "two Content-Disp"),
        (part("Content-Disposition: form-data; name=a\nContent-Transfer-Encoding: base64"), "Transfer-Encoding"),
        (part("Content-Disposition: form-data; name=a\nX: --AaB03x"), "in the head of a part"),
        (part("--AaB03x: a"), "in the head of a part"),
        (named("; filename=\"a\""), "no name"),
        (named("; name=\"\""), "no name"),
        (named("; name="), "no name"),
        (named("; name=\"a\\b\""), "not a plain one"),
        (named("; name=\"a\\\"b\""), "not a plain one"),
        (named("; name=\"a\tb\""), "not a plain one"),
        (named("; name=a; name=file"), "parameter twice"),
        (named("; name=a; NAME=file"), "parameter twice"),
        (named("; name=file; filename=a; filename=b"), "parameter twice"),
        (named("; name=a; name*=utf-8''file"), "encoded"),
        (named("; name=\"file"), "name=value"),
        (named("; name=\"file\"x"), "name=value"),
        (named("; name=fi\"le\""), "name=value"),
        (named("; name=file, x"), "name=value"),
        (named("; name =file"), "name=value"),
        (named("; name"), "name=value"),
        (named("; =file"), "name=value"),
        (named("; name=a;filename=\"a\\\"; name=\"file\""), "name=value"),
        (field("key", "a") + &field("key", "b"), "given twice"),
        (field("acl", "a") + &field("key", "") + &field("AcL", "a"), "given twice"),
        (field("key", "a--AaB03x"), "line of its own"),
        (field("key", "a~--AaB03x"), "line of its own"),
        (field("key", "a\r--AaB03x"), "line of its own"),
        (named("; name=key") + "--AaB03x\n", "line of its own"),
        (field("key", "a\n--AaB03xyz\nb"), "end of its line"),
        (field("key", "a\n--AaB03x --\nb"), "end of its line"),
    ];
    assert!(table.len() >= 40);
    for (text, expected) in table {
        let error = read_every_way(&lines(&text)).expect_err(&text);
        assert_eq!(error.code(), (400, "MalformedPOSTRequest"));
        assert!(error.to_string().contains(expected), "{text:?}: {error}");
    }
    for (value, expected) in [(&b"\xff"[..], "not UTF-8"), (b"\xc3", "not UTF-8")] {
        let body = lines(&field("key", "?")).split(|byte| *byte == b'?').map(<[u8]>::to_vec).collect::<Vec<_>>();
        let body = [&body[0], value, &body[1], b"--AaB03x"].concat();
        assert!(read_every_way(&body).unwrap_err().to_string().contains(expected));
    }
    let file = b"--AaB03x\r\nContent-Disposition: form-data; name=file; filename=\"\xff\"\r\n\r\n";
    assert!(read_every_way(file).unwrap_err().to_string().contains("not UTF-8"));
}

#[test]
fn a_form_without_a_file_is_refused() {
    for text in ["--AaB03x--".into(), "--AaB03x--\n".into(), field("key", "a") + "--AaB03x--"] {
        assert_eq!(read_every_way(&lines(&text)), Err(FormError::NoFile), "{text}");
    }
}

#[test]
fn the_fields_in_front_of_the_file_are_bounded() {
    let with = |bytes: usize| lines(&(field("key", &"a".repeat(bytes)) + FILE));
    let room = limits::FORM_HEAD_BYTES_MAX - with(0).len();
    assert_eq!(read(&with(room)).unwrap().unwrap().1, limits::FORM_HEAD_BYTES_MAX);
    assert_eq!(read(&with(room)[..limits::FORM_HEAD_BYTES_MAX - 1]), Ok(None));
    assert_eq!(read(&with(room + 1)), Err(FormError::TooLong));
    assert_eq!(read(&with(room + 1)[..limits::FORM_HEAD_BYTES_MAX]), Err(FormError::TooLong));
    assert_eq!(read(&with(1 << 20)), Err(FormError::TooLong));

    let parts = |count: usize| lines(&((0..count).map(|n| field(&n.to_string(), "")).collect::<String>() + FILE));
    assert_eq!(read(&parts(limits::FORM_PARTS_MAX)).unwrap().unwrap().0.len(), limits::FORM_PARTS_MAX);
    assert_eq!(read(&parts(limits::FORM_PARTS_MAX + 1)), Err(FormError::TooLong));
}

#[test]
fn a_boundary_is_read_from_the_content_type() {
    let fine: &[(&str, &str)] = &[
        ("multipart/form-data; boundary=AaB03x", "--AaB03x"),
        ("Multipart/Form-Data;BOUNDARY=\"----WebKit:Form\"", "------WebKit:Form"),
        ("multipart/form-data; charset=utf-8; boundary=x ;", "--x"),
    ];
    for (text, delimiter) in fine {
        assert_eq!(Boundary::of(text.as_bytes()).unwrap().0, delimiter.as_bytes(), "{text}");
    }
    for text in
        ["", "text/plain", "multipart/mixed; boundary=x", "multipart/form-data boundary=x", "multipart/form-datax"]
    {
        assert_eq!(Boundary::of(text.as_bytes()), Err(FormError::NotAForm), "{text}");
    }
    let longest = format!("multipart/form-data; boundary={}", "x".repeat(70));
    assert_eq!(Boundary::of(longest.as_bytes()).unwrap().0.len(), 72);
    for parameters in [
        "",
        ";",
        "; boundary=",
        "; boundary=\"\"",
        "; boundary=\"x",
        "; boundary=\"a b\"",
        "; boundary=a b",
        "; boundary=\"a\\b\"",
        "; boundary=é",
        "; boundary=x; boundary=x",
        "; boundary=x; Boundary=y",
        "; boundary*=utf-8''x",
        "; boundary",
        &format!("; boundary={}", "x".repeat(71)),
    ] {
        let text = format!("multipart/form-data{parameters}");
        assert!(matches!(Boundary::of(text.as_bytes()), Err(FormError::Malformed(_))), "{text}");
    }
}

/// Feeds what follows the head of a form in pieces; returns the bytes of the file when the form is complete.
fn end_of(rest: &[u8], mut piece: impl FnMut() -> usize) -> Result<u64, FormError> {
    let boundary = Boundary::of(CONTENT_TYPE).unwrap();
    let (mut end, mut at) = (FileEnd::new(&boundary), 0);
    while at < rest.len() {
        let next = (at + piece()).min(rest.len());
        end.feed(&rest[at..next])?;
        assert!(end.file_bytes_min() <= next as u64);
        at = next;
    }
    assert_eq!(end.is_complete(), end.finish().is_ok());
    end.finish()
}

fn end_every_way(rest: &[u8]) -> Result<u64, FormError> {
    let whole = end_of(rest, || rest.len());
    for step in [1, 2, 3, 5, 8, 9, 10, 11, 12, 13, 40] {
        assert_eq!(end_of(rest, || step), whole, "in steps of {step}: {}", String::from_utf8_lossy(rest));
    }
    whole
}

#[test]
fn the_end_of_a_file_is_found_wherever_it_is() {
    let files: &[&[u8]] = &[
        b"",
        b"a",
        b"\r\n",
        b"\r",
        b"\r\n--AaB03",
        b"\r\n--AaB03\r\n--AaB0",
        b"--AaB03",
        b"a--AaB03x--b",
        b"a\r--AaB03x",
        b"\r\r\r\n\n\n",
        b"\r\n-\r\n--\r\n--A",
    ];
    for file in files {
        for end in ["\r\n--AaB03x--", "\r\n--AaB03x--\r\n"] {
            assert_eq!(end_every_way(&[file, end.as_bytes()].concat()), Ok(file.len() as u64), "{file:?}");
        }
    }
    for length in [0, 1, 4096, 70_000] {
        let rest = [&vec![b'\n'; length][..], b"\r\n--AaB03x--\r\n"].concat();
        assert_eq!(end_every_way(&rest), Ok(length as u64));
    }
}

#[test]
fn nothing_but_the_end_may_follow_a_file() {
    let table = [
        ("", "ends before"),
        ("a", "ends before"),
        ("a\n--AaB03x", "ends before"),
        ("a\n--AaB03x-", "ends before"),
        ("a\n--AaB03x--\r", "ends before"),
        ("a\n--AaB03x--\nb", "something follows"),
        ("a\n--AaB03x--\n\n", "something follows"),
        ("a\n--AaB03x--b", "something follows"),
        ("a\n--AaB03x-- ", "something follows"),
        ("a\n--AaB03x --", "something follows"),
        ("a\n--AaB03xy\nb\n--AaB03x--", "something follows"),
        ("a\n--AaB03x~", "something follows"),
        ("a\n--AaB03x\n", "a field follows"),
        ("a\n--AaB03x\nContent-Disposition: form-data; name=\"submit\"\n\nUpload\n--AaB03x--\n", "a field follows"),
        ("a~--AaB03x--\n", "line of its own"),
        ("~--AaB03x--", "line of its own"),
        ("--AaB03x--", "line of its own"),
        ("--AaB03x\n", "line of its own"),
    ];
    for (text, expected) in table {
        let error = end_every_way(&lines(text)).expect_err(text);
        assert!(error.to_string().contains(expected), "{text:?}: {error}");
    }
}

#[test]
fn the_length_of_a_file_is_known_but_for_a_line_end() {
    let boundary = Boundary::of(CONTENT_TYPE).unwrap();
    let head = lines(&(field("key", "a") + FILE));
    let form = Form::read(&boundary, &head).unwrap().unwrap();
    for file in [0, 1, 2, 1000_u64] {
        for end in ["\r\n--AaB03x--", "\r\n--AaB03x--\r\n"] {
            let total = head.len() as u64 + file + end.len() as u64;
            assert!(form.file_bytes(total).unwrap().contains(&file));
        }
    }
    let shortest = (head.len() + "\r\n--AaB03x--".len()) as u64;
    assert_eq!(form.file_bytes(shortest), Some(0..=0));
    assert_eq!(form.file_bytes(shortest + 7), Some(5..=7));
    assert_eq!(form.file_bytes(shortest - 1), None);
    assert_eq!(form.file_bytes(0), None);
}

#[test]
fn fields_are_replaced_dropped_and_added_in_place() {
    let boundary = Boundary::of(CONTENT_TYPE).unwrap();
    let head = lines(&[&field("key", "a"), &field("Policy", "old"), &field("token", "t"), FILE].concat());
    let form = Form::read(&boundary, &head).unwrap().unwrap();
    let fate = |name: &[u8]| match name {
        b"Policy" => Fate::Replaced(b"new one"),
        b"token" => Fate::Dropped,
        _ => Fate::Kept,
    };
    let mut out = Vec::new();
    form.write(fate, &[("more", b"1")], &mut out);
    let expected = lines(&[&field("key", "a"), &field("Policy", "new one"), &field("more", "1"), FILE].concat());
    assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected));
    out.clear();
    form.write(|_| Fate::Kept, &[], &mut out);
    assert_eq!(out, head);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(pieces in prop::collection::vec(prop::sample::select(&[
        "--AaB03x", "\r\n", "\n", "\r", "--", "Content-Disposition: form-data; ", "name=", "\"", "file", "key", ";", "\\", ":", "\0", "é",
    ][..]), 0..40)) {
        let body = pieces.concat().into_bytes();
        let _ = read_every_way(&body);
        let _ = end_every_way(&body);
    }

    #[test]
    fn every_file_has_the_length_it_was_given(
        file in prop::collection::vec(prop::sample::select(&b"\r\n-AaB03x."[..]), 0..400),
        steps in prop::collection::vec(1_usize..30, 1..20),
    ) {
        let contains = [&b"\r\n"[..], &file].concat().windows(9).any(|window| window == b"\n--AaB03x");
        let mut steps = steps.iter().cycle();
        let found = end_of(&[&file[..], b"\r\n--AaB03x--\r\n"].concat(), || *steps.next().unwrap());
        prop_assert_eq!(found.ok(), (!contains).then_some(file.len() as u64));
    }
}
