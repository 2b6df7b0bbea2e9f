// What mpirun and its ranks say on standard error, on its way to the user: reads out of it which
// rank mpirun saw die, and, where deaths are to be survived, leaves out what mpirun is known to say
// then. Everything else passes as it came, at once: only a line that may turn out to be mpirun's
// own waits for its end. Pure; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace regroup {

// A rank that mpirun saw die.
struct LostRank {
  std::uint32_t rank = 0;
  std::string node;
  int signal = 0;

  friend bool operator==(const LostRank&, const LostRank&) = default;
};

// "rank 2 on node n1 was killed by signal 9"
std::string lost_text(const LostRank& lost);

class LaunchOutput {
 public:
  // A message of mpirun's between two rules of dashes is held until the second, or so long.
  static constexpr std::size_t kMessageBytesMax = 8192;

  enum class KnownNoise { kShow, kHide };
  explicit LaunchOutput(KnownNoise noise) : noise_(noise) {}

  // Returns what is to be shown now.
  std::string take(std::string_view bytes);
  // Nothing has come for a while, or will come any more: what is held is shown.
  std::string release();
  // From now on mpirun's messages are those of an mpirun that was told to end.
  void hide_messages() { hide_messages_ = true; }

  // The first one that was seen, in words: a rank or a node (Open MPI 5); "": none.
  std::string loss() const;
  const std::optional<LostRank>& lost() const { return lost_; }

 private:
  void take_line(std::string line, std::string& shown);
  void end_message(std::string& shown);
  void note_lost(const std::string& message);
  void note_lost_node(std::string_view text);
  bool may_be_mpiruns() const;

  KnownNoise noise_;
  bool hide_messages_ = false;
  bool at_line_start_ = true;  // whether held_ is the start of its line
  std::string held_;           // of a line that has not ended
  std::string message_;        // from its first rule of dashes on
  std::optional<LostRank> lost_;
  std::string lost_node_;
};

}  // namespace regroup
