// A worker's part in an iterate stage: it takes the cells that it owns from step to step, each as
// soon as it has what its neighbours show of themselves at that step, and the totals if it wants
// them. Nobody is asked in between. A neighbour is at most one step ahead, so that a cell holds the
// halos of two steps and no more. Now and then the coordinator names a step at which all cells are
// written down, here and in the partner's memory; when the view changes, all cells go back to one
// such step together. What cells show at a step is the same in every round. Pure, not thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/protocol/node.hpp"
#include "scheduler/cell_copies.hpp"
#include "scheduler/cells.hpp"
#include "scheduler/copy_desk.hpp"
#include "scheduler/copy_transfer.hpp"
#include "scheduler/options.hpp"
#include "scheduler/shard_source.hpp"

namespace regroup {

class CellWorker {
 public:
  // Copies that are on their way to the partner: no more than so many, nor than so many bytes,
  // unless one alone is larger.
  static constexpr std::size_t kCopiesInFlightMax = 16;
  static constexpr std::size_t kCopyBytesInFlightMax = std::size_t{64} << 20;
  // What a message of halos, or one cell's part in one, may have.
  static constexpr std::size_t kPayloadBytesMax = kMessageBytesMax - 4096;
  // The coordinator hears how far cells are no more often.
  static constexpr Nanoseconds kTellPeriod = kMillisecond;

  explicit CellWorker(const ScheduleOptions& options) : options_(options) {}

  // The job is open, and these are its stages; why they cannot be, or "".
  std::string_view open(const std::vector<StagePlan>& stages, std::vector<CellPlan> plans);
  // kCells, from the coordinator: a round begins, and whatever was under way is void.
  bool begin(Context& context, Reader& reader);
  bool on_message(Context& context, RankId from, MessageKind kind, Reader& reader);
  // A copy of a cell whose bytes came beside the frames; without them, they came damaged.
  void on_bulk(Context& context, RankId from, Reader header, BulkCopy& bulk);
  // Nothing goes on until the next round begins; what is kept stays.
  void on_view();
  void on_tick(Context& context);
  // True if there was something to do.
  bool on_work_wanted(Context& context);
  void on_work_finished(Context& context, WorkResult& result);
  bool awaits_disk() const { return !from_disk_.empty(); }
  void on_loaded(Context& context, DiskAnswer& answer);
  // Another stage has begun.
  void forget_before(StageId stage);
  void end();

  std::vector<CopyOffer> offers() const { return copies_.offers(); }
  // Adds them to what is written for a checkpoint, as they were at the step that was told last to
  // be with all owners. False if some of them is not there.
  bool add_pieces(StageId stage, const std::vector<std::uint32_t>& cells,
                  DiskRequest& request) const;
  void lent_to_disk() { copies_.spares().lent_to_disk(); }
  void back_from_disk() { copies_.spares().back_from_disk(); }

 private:
  enum class State : std::uint8_t {
    kAway,   // not set to where it begins yet
    kWaits,  // for halos, for totals, or to be written down
    kReady,  // its turn to be computed will come
    kRuns,
    kEnded,
  };
  struct Slot {
    bool here = false;
    Buffer bytes;
  };
  struct Cell {
    State state = State::kAway;
    std::uint64_t step = kNoStep;
    std::uint64_t began_at = kNoStep;  // the step that it was set to
    const std::vector<std::uint32_t>* neighbours = nullptr;
    std::array<std::vector<Slot>, 2> halos;  // of even and of odd steps, by neighbour
    std::array<std::size_t, 2> halos_here{};
    bool wants_totals = false;
    bool saving = false;
    RankId holder = kNobody;           // who has a copy of it at the step that it is set to
    RankId sought_from = kNobody;      // who was asked for the copy that it is set to
    std::shared_ptr<Buffer> restored;  // that copy
    std::optional<RegainedFrom> regained;
  };
  struct Task {
    std::uint32_t cell = 0;
    WorkKind kind{};
  };
  struct Running {
    CellRound round;
    Task task;
    std::shared_ptr<Buffer> bytes;  // kSave
  };
  // All own cells are being written down, and copied to the partner.
  struct Snapshot {
    std::uint64_t step = 0;
    std::size_t saves_left = 0;
    std::size_t to_go_on = 0;  // cells that have to take a step before copies are sent
    std::deque<std::uint32_t> to_send;
    std::map<std::uint32_t, std::size_t> under_way;  // by cell: bytes
    std::size_t bytes_under_way = 0;
    std::uint64_t refused = 0;
    Nanoseconds cost = 0;
    CopySending sending;
  };
  struct Copied {
    std::uint64_t step = 0;
    std::size_t bytes = 0;
  };
  // Halos for the cells of another rank, that wait for others of the step.
  struct Outgoing {
    std::uint64_t step = 0;
    std::size_t edges = 0;  // between its cells and those here
    struct Shown {
      std::uint32_t from = 0;
      Halo halo;
    };
    std::vector<Shown> halos;
    std::size_t bytes = 0;  // of them, with their heads
  };
  // The cells of a stage; of those of a field, the first rows of their blocks.
  struct Plan : CellPlan {
    std::vector<std::uint64_t> first_rows;
  };
  struct Early {
    RankId from;
    Buffer message;
  };

  bool is_cells(StageId stage) const;
  void drop();
  Cell* own(std::uint32_t cell);
  void set_out(Context& context, CellStart start, std::uint64_t step, CheckpointNumber checkpoint,
               const std::vector<RankId>& holders);
  void seek_copy(Context& context, std::uint32_t number, Cell& cell, RankId holder);
  bool copy_is_right(Context& context, std::uint32_t number, Cell& cell);
  void restore_from(Context& context, std::uint32_t number, Cell& cell,
                    std::shared_ptr<Buffer> bytes, RegainedFrom from);
  bool on_halos(RankId from, Reader& reader);
  bool halos_make_sense(RankId from, std::uint64_t step, Reader reader);
  void take_halo(Cell& cell, std::size_t neighbour, std::uint64_t step, Buffer bytes);
  void take_early();
  bool on_totals(Reader& reader);
  bool is_whole(std::uint32_t number, const Buffer& saved) const;
  void stands(Context& context, std::uint32_t number, Cell& cell, WorkResult& result);
  void show(Context& context, std::uint32_t number, const Cell& cell, std::vector<Halo>& halos);
  void flush(Context& context, RankId to, Outgoing& outgoing);
  void flush_all(Context& context);
  void add_partial(Context& context, std::uint32_t number, const Cell& cell, const Buffer& partial);
  void make_ready(std::uint32_t number, Cell& cell);
  void restored_one(Context& context);
  void ended_one(Context& context, std::uint64_t step);
  WorkOrder order_of(const Task& task, Cell& cell);
  void tell(Context& context, CellNews news, std::uint64_t step, std::uint64_t a = 0,
            std::uint64_t b = 0, std::string_view text = "");
  void tell_steps(Context& context);
  void fail(Context& context, std::uint32_t number, std::uint64_t step, std::string_view what);

  // ---- copies (cell_worker_copies.cpp) ----
  void find_partner(Context& context);
  bool copies_on() const;
  bool on_snapshot_at(Context& context, Reader& reader);
  void begin_snapshot(std::uint64_t step);
  void save_all_at_end(Context& context, std::uint64_t step);
  void copy_restored(Context& context);
  void went_on(Context& context);
  void save(Context& context, std::uint32_t number, Cell& cell);
  void saved(Context& context, std::uint32_t number, Cell& cell, WorkResult& result,
             std::shared_ptr<Buffer> bytes);
  void is_kept_here(std::uint32_t number);
  void send_next_copy(Context& context);
  void send_copy(Context& context, RankId to, const CellAt& at, const CellCopy& copy);
  bool on_copy(Context& context, RankId from, Reader& reader, BulkCopy* bulk);
  CopyVerdict take_copy(Context& context, RankId from, const CellAt& at, std::uint64_t hash,
                        std::shared_ptr<Buffer> bytes);
  bool on_copy_kept(Context& context, RankId from, Reader& reader);
  bool on_copy_wanted(Context& context, RankId from, Reader& reader);

  ScheduleOptions options_;
  std::vector<StagePlan> stages_;
  std::map<StageId, Plan> plans_;

  bool active_ = false;  // in a round of this view
  StageId stage_;
  CellRound round_;
  std::vector<RankId> owners_;           // by cell
  std::map<std::uint32_t, Cell> cells_;  // own ones
  std::size_t away_ = 0;
  std::size_t ended_ = 0;
  bool failed_ = false;  // one of them
  std::deque<Task> tasks_;
  std::optional<Running> running_;
  std::map<RankId, Outgoing> outgoing_;
  std::vector<Early> early_;  // of a round, or for cells, that are yet to begin here
  std::vector<std::uint32_t> from_disk_;
  CheckpointNumber checkpoint_;
  bool from_file_ = false;  // they were to come from there: nobody knew the step before
  std::uint64_t came_from_partner_ = 0;
  std::uint64_t came_from_file_ = 0;

  Buffer partials_;
  std::size_t partials_here_ = 0;
  std::shared_ptr<const Buffer> totals_;
  std::uint64_t totals_step_ = kNoStep;
  Nanoseconds told_at_ = 0;
  std::uint64_t told_first_ = kNoStep;

  CellCopies copies_;
  RankId partner_ = kNobody;
  Epoch partner_since_;
  std::map<std::uint32_t, Copied> copied_;  // by cell: what the partner has last
  std::uint64_t save_at_ = kNoStep;
  std::uint64_t named_ = kNoStep;      // the step that was last named to be written down
  std::uint64_t confirmed_ = kNoStep;  // the latest that all owners have
  std::uint64_t kept_ = kNoStep;       // the latest that this rank has told of
  std::optional<Snapshot> snapshot_;
};

}  // namespace regroup
