//! The one form of time in signatures: `20130524T000000Z` (ISO 8601, basic format, UTC).

/// A moment, as written in a signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    text: [u8; 16],
    seconds: u64,
}

impl Stamp {
    /// Reads a time from 1970 on. Nothing but the one form is taken.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: [u8; 16] = text.try_into().ok()?;
        if text[8] != b'T' || text[15] != b'Z' {
            return None;
        }
        let number = |from: usize, to: usize| {
            text[from..to]
                .iter()
                .try_fold(0_u64, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0')))
        };
        let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
        let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
        let is_time = year >= 1970
            && (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        if !is_time {
            return None;
        }
        let days = days_before(year, month) + day - 1;
        Some(Self { text, seconds: ((days * 24 + hour) * 60 + minute) * 60 + second })
    }

    /// The stamp of a moment, in seconds since 1970.
    #[must_use]
    pub fn at(seconds: u64) -> Self {
        let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
        let mut year = 1970 + days / 366;
        while days_before(year + 1, 1) <= days {
            year += 1;
        }
        days -= days_before(year, 1);
        let mut month = 1;
        while days >= days_in(year, month) {
            days -= days_in(year, month);
            month += 1;
        }
        let mut text = *b"00000000T000000Z";
        let mut put = |at: usize, len: usize, mut value: u64| {
            for place in text[at..at + len].iter_mut().rev() {
                *place = b'0' + (value % 10) as u8;
                value /= 10;
            }
        };
        put(0, 4, year);
        put(4, 2, month);
        put(6, 2, days + 1);
        put(9, 2, rest / 3600);
        put(11, 2, rest / 60 % 60);
        put(13, 2, rest % 60);
        Self { text, seconds }
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.seconds
    }

    /// As written.
    #[must_use]
    pub fn text(&self) -> &[u8; 16] {
        &self.text
    }

    /// The day, `20130524`.
    #[must_use]
    pub fn date(&self) -> &[u8] {
        &self.text[..8]
    }
}

impl std::fmt::Debug for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text))
    }
}

/// Days from 1970 to the first of a month.
fn days_before(year: u64, month: u64) -> u64 {
    let before = year - 1;
    let leap_days = before / 4 - before / 100 + before / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);
    let leap_day = u64::from(month > 2 && days_in(year, 2) == 29);
    (year - 1970) * 365 + leap_days + COMMON_DAYS_BEFORE[month as usize - 1] + leap_day
}

/// Days of a year of 365 that are before each month.
const COMMON_DAYS_BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_moments_are_read() {
        for (text, seconds) in [
            ("19700101T000000Z", 0),
            ("20000229T235959Z", 951_868_799),
            ("20130524T000000Z", 1_369_353_600),
            ("20240229T120000Z", 1_709_208_000),
            ("99991231T235959Z", 253_402_300_799),
        ] {
            let stamp = Stamp::parse(text.as_bytes()).unwrap();
            assert_eq!((stamp.seconds(), &stamp.text()[..]), (seconds, text.as_bytes()), "{text}");
            assert_eq!(stamp.date(), &text.as_bytes()[..8]);
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "20130524T000000",
            "20130524T000000ZZ",
            "20130524t000000Z",
            "20130524T000000z",
            "2013-05-24T00:00Z",
            "20130024T000000Z",
            "20131324T000000Z",
            "20130500T000000Z",
            "20130532T000000Z",
            "20130229T000000Z",
            "21000229T000000Z",
            "20130524T240000Z",
            "20130524T006000Z",
            "20130524T000060Z",
            "19691231T235959Z",
            "2013052 T000000Z",
            "+0130524T000000Z",
            "20130524T00000\u{e9}",
        ] {
            assert!(Stamp::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_is_read_as_it_was_written(seconds in 0..253_402_300_800_u64) {
            let stamp = Stamp::at(seconds);
            prop_assert_eq!(Stamp::parse(stamp.text()), Some(stamp));
        }
    }
}
