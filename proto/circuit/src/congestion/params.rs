//! The parameters of congestion control and of its flow control, with the names, defaults and
//! bounds that `tor` 0.4.9 has (proposal 324, 6.5; param-spec).
//!
//! They are read once from each consensus and shared. Where the text of the proposal and `tor`
//! differ, `tor` wins: the window grows by 1, 31 times in each window.

/// All parameters of congestion control and of its flow control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CongestionParams {
    /// `cc_alg` is 2 (Vegas), as it is unless voted otherwise.
    pub is_enabled: bool,
    /// `cc_sendme_inc`: DATA cells that one SENDME acknowledges, 1 to 255.
    pub sendme_inc_cells: u8,
    /// How windows move, on whatever path.
    pub cwnd: CwndParams,
    /// Vegas on paths to exits.
    pub exit: VegasParams,
    /// Vegas on paths between clients and services.
    pub onion: VegasParams,
    /// XON and XOFF.
    pub flow: FlowParams,
}

/// How windows move, on whatever path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CwndParams {
    /// `cc_cwnd_init`.
    pub init_cells: u32,
    /// `cc_cwnd_min`.
    pub min_cells: u32,
    /// `cc_cwnd_max`.
    pub max_cells: u32,
    /// `cc_cwnd_inc`: how much a window moves at an update.
    pub inc_cells: u32,
    /// `cc_cwnd_inc_rate`: updates in each window's worth of cells, after slow start.
    pub inc_rate: u32,
    /// `cc_cwnd_inc_pct_ss`: percent of `cc_sendme_inc` that slow start adds at each SENDME.
    pub inc_pct_ss: u32,
    /// `cc_ss_max`: where slow start ends in any case.
    pub ss_max_cells: u32,
    /// `cc_cwnd_full_gap`: SENDMEs' worth of cells that a full window may lack.
    pub full_gap: u32,
    /// `cc_cwnd_full_minpct`: below so many percent a window is no longer full.
    pub full_min_pct: u32,
    /// `cc_cwnd_full_per_cwnd`: whether a window is full is forgotten once in a window, not at
    /// each update.
    pub full_per_cwnd: bool,
    /// `cc_ewma_cwnd_pct`: percent of a window's SENDMEs that round trips are averaged over.
    pub ewma_cwnd_pct: u32,
    /// `cc_ewma_max`: most SENDMEs that they are averaged over.
    pub ewma_max: u32,
    /// `cc_ewma_ss`: SENDMEs that they are averaged over in slow start.
    pub ewma_ss: u32,
    /// `cc_rtt_reset_pct`: weight of the current round trip when the window is at its minimum.
    pub rtt_reset_pct: u32,
}

/// The thresholds of Vegas, in cells that queue along the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VegasParams {
    /// Below it the window grows.
    pub alpha_cells: u32,
    /// Above it the window shrinks.
    pub beta_cells: u32,
    /// From so many queued cells on slow start ends.
    pub gamma_cells: u32,
    /// The window is cut down to it.
    pub delta_cells: u32,
    /// `cc_sscap_…`: the window beyond which slow start slows down.
    pub ss_cap_cells: u32,
}

/// XON and XOFF (proposal 324, 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowParams {
    /// `cc_xoff_client`: cells that wait for a client's or a service's socket before XOFF.
    pub xoff_client_cells: u32,
    /// `cc_xoff_exit`: the same at an exit.
    pub xoff_exit_cells: u32,
    /// `cc_xon_rate`: cells over which the rate of a socket is measured.
    pub xon_rate_cells: u32,
    /// `cc_xon_change_pct`: a rate that has changed by more is told.
    pub xon_change_pct: u32,
    /// `cc_xon_ewma_cnt`: measures that a rate is averaged over.
    pub xon_ewma_count: u32,
}

impl CongestionParams {
    /// Reads them: `value(name, default, min, max)` gives a parameter of the consensus, or the
    /// default, clamped.
    pub fn read(value: impl Fn(&str, i32, i32, i32) -> i32) -> Self {
        let value = |name: &str, default, min, max| value(name, default, min, max).unsigned_abs();
        let vegas = |kind: &str, defaults: [i32; 5]| {
            let [alpha, beta, gamma, delta, ss_cap] = defaults;
            let threshold = |name: &str, default, max| {
                let name = format!("cc_vegas_{name}_{kind}");
                value(&name, default, 0, max)
            };
            VegasParams {
                alpha_cells: threshold("alpha", alpha, 1000),
                beta_cells: threshold("beta", beta, 1000),
                gamma_cells: threshold("gamma", gamma, 1000),
                delta_cells: threshold("delta", delta, i32::MAX),
                ss_cap_cells: value(&format!("cc_sscap_{kind}"), ss_cap, 100, i32::MAX),
            }
        };
        CongestionParams {
            is_enabled: value("cc_alg", 2, 0, 2) == 2,
            sendme_inc_cells: u8::try_from(value("cc_sendme_inc", 31, 1, 255)).unwrap_or(u8::MAX),
            cwnd: CwndParams {
                init_cells: value("cc_cwnd_init", 124, 31, 10_000),
                min_cells: value("cc_cwnd_min", 124, 31, 1000),
                max_cells: value("cc_cwnd_max", i32::MAX, 500, i32::MAX),
                inc_cells: value("cc_cwnd_inc", 1, 1, 1000),
                inc_rate: value("cc_cwnd_inc_rate", 31, 1, 250),
                inc_pct_ss: value("cc_cwnd_inc_pct_ss", 100, 1, 500),
                ss_max_cells: value("cc_ss_max", 5000, 500, i32::MAX),
                full_gap: value("cc_cwnd_full_gap", 4, 0, 32_767),
                full_min_pct: value("cc_cwnd_full_minpct", 25, 0, 100),
                full_per_cwnd: value("cc_cwnd_full_per_cwnd", 1, 0, 1) == 1,
                ewma_cwnd_pct: value("cc_ewma_cwnd_pct", 50, 1, 255),
                ewma_max: value("cc_ewma_max", 10, 2, i32::MAX),
                ewma_ss: value("cc_ewma_ss", 2, 2, i32::MAX),
                rtt_reset_pct: value("cc_rtt_reset_pct", 100, 0, 100),
            },
            exit: vegas("exit", [186, 248, 186, 310, 600]),
            onion: vegas("onion", [186, 372, 248, 434, 475]),
            flow: FlowParams {
                xoff_client_cells: value("cc_xoff_client", 500, 1, 10_000),
                xoff_exit_cells: value("cc_xoff_exit", 500, 1, 10_000),
                xon_rate_cells: value("cc_xon_rate", 500, 1, 5000),
                xon_change_pct: value("cc_xon_change_pct", 25, 1, 99),
                xon_ewma_count: value("cc_xon_ewma_cnt", 2, 2, 100),
            },
        }
    }

    /// Whether a peer's `sendme_inc` may be used: not zero, and within 1 of the consensus's, which
    /// leaves room for a change under way.
    #[must_use]
    pub fn accepts_sendme_inc(&self, cells: u8) -> bool {
        cells != 0 && cells.abs_diff(self.sendme_inc_cells) <= 1
    }
}

impl Default for CongestionParams {
    /// Those of a consensus that says nothing.
    fn default() -> Self {
        CongestionParams::read(|_, default, _, _| default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bounds() {
        let none = CongestionParams::default();
        assert!(none.is_enabled);
        let voted = CongestionParams::read(|name, default, min, max| {
            assert!(min <= default && default <= max, "{name}");
            match name {
                "cc_alg" => 0,
                "cc_sendme_inc" => 255,
                "cc_vegas_delta_onion" => 9,
                "cc_sscap_exit" => 7,
                _ => default,
            }
        });
        assert!(!voted.is_enabled);
        assert_eq!((voted.sendme_inc_cells, voted.exit.ss_cap_cells), (255, 7));
        assert_eq!((voted.onion.delta_cells, voted.exit.delta_cells), (9, 310));
    }

    #[test]
    fn only_what_is_near_the_consensus_is_accepted() {
        let mut params = CongestionParams::default();
        let accepted: Vec<u8> = (0..=255)
            .filter(|n| params.accepts_sendme_inc(*n))
            .collect();
        assert_eq!(accepted, [30, 31, 32]);
        params.sendme_inc_cells = 1;
        assert!(!params.accepts_sendme_inc(0) && params.accepts_sendme_inc(2));
    }
}
