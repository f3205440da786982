//! Dates as C's `strftime` writes them, for templates that name the day.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A moment of the Gregorian calendar, in UTC.
struct Civil {
    year: i64,
    month: usize,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    week_day: usize,
    year_day: i64,
}

impl Civil {
    fn at(time: SystemTime) -> Self {
        let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()) as i64;
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let mut year = 1970 + days / 366;
        while days_before(year + 1) <= days {
            year += 1;
        }
        let year_day = days - days_before(year);
        let mut month = 0;
        let mut day = year_day;
        while day >= month_days(year, month) {
            day -= month_days(year, month);
            month += 1;
        }
        Self {
            year,
            month,
            day: day + 1,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
            week_day: ((days + 4) % 7) as usize,
            year_day: year_day + 1,
        }
    }
}

/// Days from 1970 to the beginning of `year`.
fn days_before(year: i64) -> i64 {
    let leap_years = |year: i64| year / 4 - year / 100 + year / 400;
    365 * (year - 1970) + leap_years(year - 1) - leap_years(1969)
}

fn month_days(year: i64, month: usize) -> i64 {
    match month {
        1 => 28 + (days_before(year + 1) - days_before(year) - 365),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

/// `format` with its `%` fields filled in, in English and UTC. Fields that it does not know stay as they are.
pub(super) fn strftime(time: SystemTime, format: &str) -> String {
    let t = Civil::at(time);
    let (month, day) = (MONTHS[t.month], DAYS[t.week_day]);
    let hour12 = (t.hour + 11) % 12 + 1;
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('Y') => out += &t.year.to_string(),
            Some('y') => out += &format!("{:02}", t.year % 100),
            Some('m') => out += &format!("{:02}", t.month + 1),
            Some('B') => out += month,
            Some('b' | 'h') => out += &month[..3],
            Some('d') => out += &format!("{:02}", t.day),
            Some('e') => out += &format!("{:2}", t.day),
            Some('j') => out += &format!("{:03}", t.year_day),
            Some('A') => out += day,
            Some('a') => out += &day[..3],
            Some('w') => out += &t.week_day.to_string(),
            Some('H') => out += &format!("{:02}", t.hour),
            Some('I') => out += &format!("{hour12:02}"),
            Some('M') => out += &format!("{:02}", t.minute),
            Some('S') => out += &format!("{:02}", t.second),
            Some('p') => out += if t.hour < 12 { "AM" } else { "PM" },
            Some('F') => out += &format!("{}-{:02}-{:02}", t.year, t.month + 1, t.day),
            Some('T') => out += &format!("{:02}:{:02}:{:02}", t.hour, t.minute, t.second),
            Some('Z') => out += "UTC",
            Some('z') => out += "+0000",
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64, format: &str) -> String {
        strftime(UNIX_EPOCH + Duration::from_secs(seconds), format)
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let all = "%Y-%m-%d %H:%M:%S %a %A %b %B %j %y %e %I %p %w %%";
        assert_eq!(at(0, all), "1970-01-01 00:00:00 Thu Thursday Jan January 001 70  1 12 AM 4 %");
        assert_eq!(at(951_827_696, all), "2000-02-29 12:34:56 Tue Tuesday Feb February 060 00 29 12 PM 2 %");
        assert_eq!(at(1_735_689_599, "%d %b %Y %T"), "31 Dec 2024 23:59:59");
        assert_eq!(at(1_735_689_600, "%F %j %q %"), "2025-01-01 001 %q %");
        assert_eq!(at(4_107_542_400, "%F"), "2100-03-01");
    }
}
