//! Buckets that turned out to be in another region than their route says.

use std::time::Duration;

use crate::clock::Instant;
use crate::policy::route::Bucket;

/// What a shard has learned of regions.
#[derive(Default)]
pub(super) struct Regions(Vec<Moved>);

#[derive(Clone)]
struct Moved {
    /// Its host tells it from one of that name at another provider, its name from those at the same host.
    bucket: Bucket,
    region: String,
    /// Whether anything was served from there. Until then it is no more than what one answer said, and when.
    is_proved: bool,
    since: Instant,
}

impl Regions {
    /// Where requests for `bucket` go now, if not to the region of its route, and whether that is no more than supposed.
    pub(super) fn of(&mut self, bucket: Option<&Bucket>, now: fn() -> Instant) -> Option<(&str, bool)> {
        let at = self.position(bucket?)?;
        if !self.0[at].is_proved && now() - self.0[at].since >= SUPPOSED_FOR {
            self.0.swap_remove(at);
            return None;
        }
        let moved = &self.0[at];
        Some((&moved.region, !moved.is_proved))
    }

    /// What of it is more than supposed.
    pub(super) fn proved(&self) -> Self {
        Self(self.0.iter().filter(|moved| moved.is_proved).cloned().collect())
    }

    /// Whether something was served from the region that was learned for a bucket.
    pub(super) fn knows(&self, bucket: &Bucket) -> bool {
        self.position(bucket).is_some_and(|at| self.0[at].is_proved)
    }

    /// Supposes that a bucket is where the storage says.
    pub(super) fn suppose(&mut self, bucket: &Bucket, region: &str, now: Instant) {
        match self.position(bucket) {
            Some(at) if self.0[at].region == region => self.0[at].since = now,
            at => {
                at.map(|at| self.0.swap_remove(at));
                self.learn(bucket, region, false, now);
            }
        }
    }

    /// Notes that an answer to a request that was signed for `region` on supposition shows it to be right or wrong. Says
    /// whether it is known since then. Another answer may have said something else in the meantime: what is right stays right.
    pub(super) fn settle(&mut self, bucket: &Bucket, region: &str, is_right: bool, now: Instant) -> bool {
        match self.position(bucket) {
            None => is_right && self.learn(bucket, region, true, now),
            Some(at) if self.0[at].region != region => false,
            Some(at) if is_right => !std::mem::replace(&mut self.0[at].is_proved, true),
            Some(at) => {
                if !self.0[at].is_proved {
                    self.0.swap_remove(at);
                }
                false
            }
        }
    }

    fn learn(&mut self, bucket: &Bucket, region: &str, is_proved: bool, since: Instant) -> bool {
        let has_room = self.0.len() < MOVED_MAX;
        if has_room {
            self.0.push(Moved { bucket: bucket.clone(), region: region.to_string(), is_proved, since });
        }
        has_room
    }

    fn position(&self, bucket: &Bucket) -> Option<usize> {
        self.0.iter().position(|moved| moved.bucket == *bucket)
    }
}

/// How long a region is supposed that nothing was served from, and nothing said to be wrong.
const SUPPOSED_FOR: Duration = Duration::from_secs(60);

/// Buckets whose region was learned.
const MOVED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn bucket(name: &str) -> Bucket {
        Bucket { name: name.into(), host: format!("{name}.s3.us-west-2.amazonaws.com") }
    }

    fn region<'r>(regions: &'r mut Regions, bucket: &Bucket) -> Option<(&'r str, bool)> {
        regions.of(Some(bucket), clock::mono)
    }

    #[test]
    fn a_region_is_known_once_something_was_served_from_there() {
        let (mut regions, media, now) = (Regions::default(), bucket("media"), clock::mono());
        regions.suppose(&media, "eu-west-1", now);
        assert_eq!(region(&mut regions, &media), Some(("eu-west-1", true)));
        assert_eq!(region(&mut regions, &bucket("plates")), None);
        assert_eq!(regions.of(None, clock::mono), None);
        assert!(!regions.settle(&media, "eu-west-2", true, now), "nobody said that");
        assert!(!regions.settle(&media, "eu-west-1", false, now), "it is not there");
        assert_eq!(region(&mut regions, &media), None);
        regions.suppose(&media, "eu-west-1", now);
        assert!(regions.settle(&media, "eu-west-1", true, now));
        assert!(!regions.settle(&media, "eu-west-1", true, now), "that is no news");
        assert!(!regions.settle(&media, "eu-west-1", false, now), "what is known is not supposed");
        regions.suppose(&media, "eu-west-1", now);
        assert_eq!(region(&mut regions, &media), Some(("eu-west-1", false)));
        regions.suppose(&media, "eu-west-3", now);
        assert_eq!(region(&mut regions, &media), Some(("eu-west-3", true)), "it moved again");
    }

    #[test]
    fn buckets_of_one_host_are_in_regions_of_their_own() {
        let (mut regions, now) = (Regions::default(), clock::mono());
        let [media, plates] = ["media", "plates"].map(|name| Bucket { name: name.into(), host: "s3.test".into() });
        regions.suppose(&media, "eu-west-1", now);
        regions.settle(&media, "eu-west-1", true, now);
        assert_eq!(region(&mut regions, &plates), None);
        regions.suppose(&plates, "eu-west-2", now);
        assert_eq!(region(&mut regions, &media), Some(("eu-west-1", false)));
        assert!(regions.knows(&media) && !regions.knows(&plates));
    }

    #[test]
    fn what_was_served_counts_though_it_was_said_to_be_wrong_in_the_meantime() {
        let (mut regions, media, now) = (Regions::default(), bucket("media"), clock::mono());
        regions.suppose(&media, "eu-west-1", now);
        regions.settle(&media, "eu-west-1", false, now);
        assert!(regions.settle(&media, "eu-west-1", true, now));
        assert_eq!(region(&mut regions, &media), Some(("eu-west-1", false)));
    }

    #[test]
    fn what_is_known_outlives_a_configuration_and_what_is_supposed_does_not() {
        let (mut regions, media, plates, now) = (Regions::default(), bucket("media"), bucket("plates"), clock::mono());
        for bucket in [&media, &plates] {
            regions.suppose(bucket, "eu-west-1", now);
        }
        regions.settle(&media, "eu-west-1", true, now);
        let mut after = regions.proved();
        assert_eq!(region(&mut after, &media), Some(("eu-west-1", false)));
        assert_eq!(region(&mut after, &plates), None);
    }

    #[test]
    fn what_nobody_settles_is_supposed_for_a_minute() {
        let (mut regions, media) = (Regions::default(), bucket("media"));
        let long_ago = clock::mono().checked_sub(SUPPOSED_FOR).unwrap();
        regions.suppose(&media, "eu-west-1", long_ago);
        regions.suppose(&media, "eu-west-1", clock::mono());
        assert!(region(&mut regions, &media).is_some(), "it was said again");
        regions.settle(&media, "eu-west-1", false, clock::mono());
        regions.suppose(&media, "eu-west-1", long_ago);
        assert_eq!(region(&mut regions, &media), None);
        regions.suppose(&media, "eu-west-1", long_ago);
        regions.settle(&media, "eu-west-1", true, clock::mono());
        assert!(region(&mut regions, &media).is_some(), "what is known stays");
    }

    #[test]
    fn no_more_is_learned_than_fits() {
        let (mut regions, now) = (Regions::default(), clock::mono());
        for number in 0..=MOVED_MAX {
            regions.suppose(&bucket(&number.to_string()), "eu-west-1", now);
        }
        assert_eq!(regions.0.len(), MOVED_MAX);
        assert!(!regions.settle(&bucket("another"), "eu-west-1", true, now));
    }
}
