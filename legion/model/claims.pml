/* Claims: may one slot be started twice?

   Lords in terms of their choosing, three voters, one slot, and no clocks at
   all: any step may be delayed for ever. Phase 1 is the vote (Ask, Vote), phase
   2 the fenced write (Accept, Accepted). Beats raise a voter's promise without
   telling the lord what the voter had written.

   With DISK, writes of voter 0 take time and it restarts at any moment: what
   was not on disk is lost. Otherwise every write is durable at once.

   The macros remove one rule each; see README.md. BLANK_NEW_EPOCH is a good one:
   a voter that lost its disk is replaced by a committed change of electorate. */

#ifndef NL
#define NL 2          /* lords */
#endif
#ifndef TERMS
#define TERMS NL
#endif
#define NV 3
#ifndef Q1
#define Q1 2          /* votes that make a lord */
#endif
#ifndef Q2
#define Q2 2          /* answers that commit a write */
#endif

#if defined(BLANK_AT_ONCE) || defined(BLANK_COPIES) || defined(BLANK_REFILLED) || defined(BLANK_REFILLED_KNOWN) || defined(BLANK_NEW_EPOCH)
#define BLANK
#endif
#if defined(BLANK_REFILLED) || defined(BLANK_REFILLED_KNOWN) || defined(BLANK_NEW_EPOCH)
#define MUTE
#endif

byte promise[NV];     /* Grant.Term */
byte holder[NV];      /* Grant.Incarnation: lord; 0: none */
byte claim[NV];       /* the lord whose claim it took; 0: none */
byte starts;
#ifdef DISK
byte diskPromise; byte diskHolder; byte diskClaim;
#define written (diskPromise == promise[0] && diskHolder == holder[0] && diskClaim == claim[0])
#endif
#ifdef MUTE
bool blank[NV];       /* answers nothing */
#define answers(i) (!blank[i])
#else
#define answers(i) true
#endif
#ifdef BLANK_NEW_EPOCH
byte epoch[NV];
#define inEpoch(i) (epoch[i] <= mine)
#else
#define inEpoch(i) true
#endif

#ifdef TERM_SHARED
#define same(i) (promise[i] == t)
#else
#define same(i) (promise[i] == t && holder[i] == me)
#endif
#ifdef OLD_TERM_WRITES
#define fenced(i) (promise[i] >= t)
#else
#define fenced(i) same(i)
#endif

#if defined(DISK) && !defined(ANSWER_BEFORE_DISK)
#define onDisk(i) (i != 0 || written)
#else
#define onDisk(i) true
#endif
#ifdef DISK
#define waiting owed
#else
#define waiting false
#endif

inline anyVoter() { if :: i = 0 :: i = 1 :: i = 2 fi }

inline keep() {       /* the promise of voter i, to this lord */
  promise[i] = t; holder[i] = me;
#ifdef BLANK_NEW_EPOCH
  epoch[i] = mine
#endif
}

inline look() {       /* what voter i had written */
  if :: claim[i] != 0 -> seen = true :: else fi
}

proctype Lord(byte me) {
  byte t; byte i; byte n; bool seen;
  bool asked[NV]; bool sent[NV];
#ifdef DISK
  bool owed;          /* an answer of voter 0 waits for the disk */
#endif
#ifdef BLANK_NEW_EPOCH
  byte mine;
#endif
#ifdef MUTE
  bool lost[NV];      /* voters it knows to be blank */
#ifdef BLANK_REFILLED
  lost[0] = true; lost[1] = true; lost[2] = true;
#else
  atomic { lost[0] = blank[0]; lost[1] = blank[1]; lost[2] = blank[2] }
#endif
#endif
#ifdef BLANK_NEW_EPOCH
  if :: mine = epoch[0] :: mine = epoch[1] :: mine = epoch[2] fi;
#endif
#ifdef BLANK
  t = me;
#else
  t = 1; do :: t < TERMS -> t++ :: break od;
#endif

#ifdef READ_BEFORE_PROMISE
  do
  :: atomic { n < Q1 -> anyVoter(); if :: !sent[i] -> sent[i] = true; n++; look() :: else fi; i = 0 }
  :: else -> break
  od;
  n = 0; sent[0] = false; sent[1] = false; sent[2] = false;
#endif

  do                                           /* phase 1 */
  :: atomic {
       n < Q1 -> anyVoter();
       if
       :: !asked[i] ->
          asked[i] = true;
          if
          :: (promise[i] < t || same(i)) && answers(i) && inEpoch(i) ->
             keep();
             if
             :: onDisk(i) -> n++;
#ifndef READ_BEFORE_PROMISE
                look()
#endif
             :: else ->
#ifdef DISK
                owed = true
#endif
             fi
          :: else
          fi
#ifdef DISK
       :: i == 0 && owed && same(0) && written -> owed = false; n++; look()
#endif
       :: else
       fi;
       i = 0 }
  :: n >= Q1 -> break
  :: n < Q1 && asked[0] && asked[1] && asked[2] && !waiting -> goto done
  od;

#ifdef BLANK_NEW_EPOCH
  if
  :: lost[0] || lost[1] || lost[2] ->          /* commit an electorate without the blank voter first */
     n = 0; i = 0;
     do
     :: i < NV ->
        atomic {
          if :: !blank[i] && promise[i] <= t && epoch[i] <= mine+1 -> mine++; keep(); mine--; n++; look() :: else fi;
          i++ }
     :: else -> break
     od;
     if :: n >= Q1 -> mine++ :: else -> goto done fi
  :: else
  fi;
#endif
#ifdef MUTE
  i = 0;                                       /* refill the blank voter */
  do
  :: i < NV ->
     atomic {
       if
       :: blank[i] && lost[i] && promise[i] <= t -> blank[i] = false; keep(); if :: seen && claim[i] == 0 -> claim[i] = me :: else fi
       :: skip
       fi;
       i++ }
  :: else -> break
  od;
#endif

#ifndef VOTES_UNREAD
  if :: seen -> goto done :: else fi;          /* it was claimed: never start it again */
#endif

  n = 0;
#ifdef DISK
  owed = false;
#endif
  do                                           /* phase 2 */
  :: atomic {
       n < Q2 -> anyVoter();
       if
#ifndef BLANK                                  /* a beat reaches a voter that did not vote */
       :: promise[i] < t -> keep()
#endif
       :: !sent[i] ->
          sent[i] = true;
#ifdef BLANK                                   /* beat and write in one */
          if :: promise[i] <= t && answers(i) && inEpoch(i) -> keep(); claim[i] = me; n++ :: else fi
#else
          if
          :: fenced(i) ->
             claim[i] = me;
             if
             :: onDisk(i) -> n++
             :: else ->
#ifdef DISK
                owed = true
#endif
             fi
          :: else
          fi
#ifdef DISK
       :: i == 0 && sent[0] && owed && claim[0] == me && written -> owed = false; n++
#endif
#endif
       :: else
       fi;
       i = 0 }
  :: n >= Q2 -> break
  :: n < Q2 && sent[0] && sent[1] && sent[2] && !waiting -> goto done
  od;
  starts++; assert(starts <= 1);
done: skip
}

#ifdef DISK
proctype Disk() {
end:
  do
  :: d_step { !written -> diskPromise = promise[0]; diskHolder = holder[0]; diskClaim = claim[0] }
  :: d_step { !written -> promise[0] = diskPromise; holder[0] = diskHolder; claim[0] = diskClaim }   /* a restart */
  od
}
#endif

#ifdef BLANK
proctype Lose() {                              /* one voter loses its disk */
  byte i; byte j; byte k; byte p; byte h; byte c;
  anyVoter();
  atomic {
    promise[i] = 0; holder[i] = 0; claim[i] = 0;
#ifdef MUTE
    blank[i] = true;
#endif
#ifdef BLANK_NEW_EPOCH
    epoch[i] = 0
#endif
  }
#ifdef BLANK_COPIES
  j = (i+1)%NV; k = (i+2)%NV;
  atomic { p = promise[j]; h = holder[j]; c = claim[j] }
  atomic { if :: promise[k] > p -> p = promise[k]; h = holder[k] :: else fi; if :: claim[k] != 0 -> c = claim[k] :: else fi }
  atomic { if :: promise[i] < p -> promise[i] = p; holder[i] = h :: else fi; if :: c != 0 -> claim[i] = c :: else fi }
#endif
}
#endif

init {
  atomic {
    run Lord(1); run Lord(2);
#if NL==3
    run Lord(3);
#endif
#ifdef DISK
    run Disk();
#endif
#ifdef BLANK
    run Lose()
#endif
  }
}
