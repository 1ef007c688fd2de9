/* Leases: may two candidates count on the same voter at the same time?

   Each candidate sends numbered requests (Ask, Beat), releases and, at its
   end, a certificate of its death. A message is delivered at any later time,
   again, or never, and so is each answer. Voters restart at any time and keep
   what is on disk. Time is unbounded: only ages that still matter are kept.
   The number of messages is bounded, M0 and M1 for the two candidates.

   With NV=1 the voter is the one that two quorums share, and a candidate may
   beat as soon as it has asked, because the other voters may have elected it.
   If nobody else can count on that voter while one does, no two reigns
   overlap, whatever the number of voters. NV=3 counts quorums outright.

   What is switched on, since everything at once is too much to search:

     LATE          answers travel like messages. Otherwise they count at once,
                   which is the worst that can come of a right answer: it counts
                   from the sending of its request whenever it arrives.
     DISK          writes take time, and restarts lose those under way.
                   Otherwise they are durable at once.
     CERTIFICATES  incarnations end. Otherwise they only fall silent.
     SELF          candidate 0 lives in the voter's own process.
     NO_RESTART    voters do not restart.

   Every other macro removes one rule; see README.md. Without any of those the
   model has the rules of voter.go, campaign.go and lord.go. */

#ifndef NV
#define NV 1
#endif
#ifndef Q
#define Q 1      /* grants that make a lord */
#endif
#ifndef M0
#define M0 4
#endif
#ifndef M1
#define M1 2
#endif
#ifndef TERMS
#define TERMS 3
#endif
#define L 2      /* a lease, in true time, on the fastest voter's clock */
#ifdef NO_MARGIN
#define HOLD 3   /* the holder's part of it, on the slowest holder's clock */
#else
#define HOLD 2
#endif
#define MSGS (M0+M1)
#define OLD HOLD /* an age at which no answer counts any more */

mtype = { none, ask, beat, release };

/* candidates: 0 sends the messages 0..M0-1, 1 the rest, in this order */
byte sent[2];            /* how many */
byte cur[2];             /* term it stands or reigns in; 0: none */
byte asked[2];           /* highest term it ever asked in */
byte first[2];           /* first message of the present campaign or reign */
#if defined(CERTIFICATES) || defined(SELF)
bool gone[2];            /* its incarnation has ended */
#define alive(c) (!gone[c])
#else
#define alive(c) true
#endif
byte left[2*NV];         /* for how long it counts on voter v */
mtype kind[MSGS];
byte term[MSGS];
byte age[MSGS];

/* voters */
byte promise[NV];        /* Grant.Term */
byte holder[NV];         /* Grant.Incarnation: candidate + 1; 0: none */
byte blocks[NV];         /* for how long others are kept out */
byte seq[NV];            /* holder's message that extended it: index + 1 */
byte rel[NV];            /* holder's message that gave it back */
byte last[2*NV];         /* latest beat or release of each candidate */
#ifdef CERTIFICATES
bool dying[2];           /* its certificate is on the way */
bool certified[2*NV];    /* certificate seen */
#define heard(c,v) (!certified[(c)*NV+(v)])
#else
#define heard(c,v) true
#endif
#ifdef DISK
bool durable[NV];        /* promise and holder are on disk */
byte diskPromise[NV]; byte diskHolder[NV];
short owed[NV];          /* answers that wait for the disk, by message */
#define onDisk(v) durable[v]
#else
#define onDisk(v) true
#endif
#ifdef LATE
short ans[NV];           /* answers on their way */
#endif

#define cand(m)  ((m) >= M0 -> 1 : 0)
#define room(c)  (sent[c] < ((c)==0 -> M0 : M1))
#define next(c)  ((c)==0 -> sent[0] : M0+sent[1])

#if NV==1
#define lord(c) (left[c] > 0)
#elif NV==2
#define lord(c) ((left[(c)*2]>0) + (left[(c)*2+1]>0) >= Q)
#else
#define lord(c) ((left[(c)*3]>0) + (left[(c)*3+1]>0) + (left[(c)*3+2]>0) >= Q)
#endif

inline send(c, k) {
  m = next(c); kind[m] = k; term[m] = cur[c]; age[m] = 0; sent[c]++
}

inline stopCounting(c) {
  cur[c] = 0; v = 0;
  do :: v < NV -> left[c*NV+v] = 0; v++ :: else -> break od
}

inline give() {          /* grant the term of message m to its sender */
  promise[v] = term[m]; holder[v] = c+1; seq[v] = m+1; rel[v] = 0;
#ifdef DISK
  durable[v] = false
#endif
}

inline extend() {
  blocks[v] = L; if :: seq[v] < m+1 -> seq[v] = m+1 :: else fi
}

#define same     (promise[v] == term[m] && holder[v] == c+1)
#define occupied (blocks[v] > 0 && holder[v] != c+1)
#ifdef RELEASE_UNNUMBERED
#define voided   false
#define newer    true
#else
#define voided   (m+1 <= rel[v])
#define newer    (m+1 > seq[v])
#endif
#ifdef VOTE_BREAKS_LEASE
#define free     true
#else
#define free     (!occupied)
#endif
#define higher   (term[m] > promise[v])

inline credit() {        /* an answer of voter v to message m */
#ifdef OLD_ANSWERS_COUNT
  if :: cur[c] != 0 ->
#else
  if :: cur[c] == term[m] && m >= first[c] ->
#endif
     t = HOLD;
#if defined(COUNT_FROM_ANSWER)
#elif defined(ANSWER_UNMATCHED)
     t = t - age[next(c)-1];          /* the latest request */
#else
     t = (age[m] < HOLD -> HOLD-age[m] : 0);
#endif
     if :: left[c*NV+v] < t -> left[c*NV+v] = t :: else fi;
     assert(!(lord(0) && lord(1)))
  :: else
  fi
}

inline reply() {         /* the answer leaves */
#ifdef LATE
  ans[v] = ans[v] | (1<<m)
#else
  credit()
#endif
}

inline deliver() {       /* message m to voter v */
  if
  :: kind[m] == ask && free && (same -> !voided : higher) ->
     if :: !same -> give() :: else fi;
     extend();
#ifdef ANSWER_BEFORE_DISK
     reply()
#else
     if :: onDisk(v) -> reply()
     :: else ->
#ifdef DISK
        owed[v] = owed[v] | (1<<m)
#endif
     fi
#endif
  :: kind[m] == beat && m+1 > last[c*NV+v] ->
     last[c*NV+v] = m+1;
     if
     :: (same -> !voided : (higher && free)) ->
        if :: !same -> give() :: else fi;
        extend();
#ifdef RENEW_BEFORE_DISK
        reply()
#else
        if :: onDisk(v) -> reply() :: else fi
#endif
     :: else
     fi
  :: kind[m] == release ->
     if :: last[c*NV+v] < m+1 -> last[c*NV+v] = m+1 :: else fi;
     if :: same && newer -> rel[v] = m+1; blocks[v] = 0 :: else fi
  :: else
  fi
}

inline anyVoter() { if :: v = 0
#if NV > 1
  :: v = 1
#endif
#if NV > 2
  :: v = 2
#endif
  fi }
inline anyCandidate() { if :: c = 0 :: c = 1 fi }
inline anyMessage() { m = 0; do :: m < MSGS-1 -> m++ :: break od; c = cand(m) }

active proctype World() {
  byte c; byte m; byte v; byte t;
  do
  :: d_step {                                    /* time passes */
       m = 0; do :: m < MSGS -> if :: kind[m] != none && age[m] < OLD -> age[m]++ :: else fi; m++ :: else -> break od;
       v = 0; do :: v < NV -> if :: blocks[v] > 0 -> blocks[v]-- :: else fi; v++ :: else -> break od;
       v = 0; do :: v < 2*NV -> if :: left[v] > 0 -> left[v]-- :: else fi; v++ :: else -> break od;
       c = 0; m = 0; v = 0; t = 0 }

  :: atomic { anyCandidate();                    /* a campaign in a new term */
       if
       :: cur[c] == 0 && alive(c) && room(c) && asked[c] < TERMS ->
          t = asked[c]+1; do :: t < TERMS -> t++ :: break od;
#ifdef TERM_ASKED_TWICE
          if :: asked[c] > 0 -> t = asked[c] :: skip fi;
#endif
          cur[c] = t; asked[c] = t; first[c] = next(c); send(c, ask)
       :: else fi; c = 0; m = 0; v = 0; t = 0 }

  :: atomic { anyCandidate();                    /* ask again, or renew */
       if :: cur[c] != 0 && room(c) -> if :: send(c, ask) :: send(c, beat) fi
       :: else fi; c = 0; m = 0; v = 0; t = 0 }

  :: atomic { anyCandidate();                    /* let go: stop, then tell */
       if :: cur[c] != 0 && room(c) -> send(c, release);
#ifndef RELEASE_BEFORE_STOP
          stopCounting(c)
#endif
       :: else fi; c = 0; m = 0; v = 0; t = 0 }

#ifdef CERTIFICATES
  :: atomic { anyCandidate();                    /* the end of an incarnation */
       if :: alive(c) && !dying[c] && asked[c] > 0 -> dying[c] = true;
#ifndef CERTIFICATE_BEFORE_END
          gone[c] = true; stopCounting(c)
#endif
       :: else fi; c = 0; m = 0; v = 0; t = 0 }

  :: atomic { anyCandidate(); anyVoter();        /* its certificate arrives */
       if :: dying[c] -> certified[c*NV+v] = true; if :: holder[v] == c+1 -> blocks[v] = 0 :: else fi
       :: else fi; c = 0; m = 0; v = 0; t = 0 }
#endif

  :: atomic { anyMessage(); anyVoter();          /* a message arrives */
       if :: kind[m] != none && heard(c, v) -> deliver() :: else fi; c = 0; m = 0; v = 0; t = 0 }

#ifdef LATE
  :: atomic { anyMessage(); anyVoter();          /* an answer arrives */
       if :: (ans[v] >> m) & 1 -> credit() :: else fi; c = 0; m = 0; v = 0; t = 0 }
#endif

#ifdef DISK
  :: atomic { anyVoter();                        /* the disk has it */
       if
       :: !durable[v] ->
          durable[v] = true; diskPromise[v] = promise[v]; diskHolder[v] = holder[v];
          m = 0;
          do
          :: m < MSGS -> if :: (owed[v] >> m) & 1 -> c = cand(m); reply() :: else fi; m++
          :: else -> break
          od;
          owed[v] = 0
       :: else
       fi; c = 0; m = 0; v = 0; t = 0 }
#endif

#ifndef NO_RESTART
  :: atomic { anyVoter();                        /* a voter restarts */
#ifdef DISK
       promise[v] = diskPromise[v]; holder[v] = diskHolder[v]; durable[v] = true; owed[v] = 0;
#endif
#ifdef CERTIFICATES
       certified[v] = false; certified[NV+v] = false;
#endif
       seq[v] = 0; rel[v] = 0; last[v] = 0; last[NV+v] = 0;
#ifdef RESTART_FORGETS
       blocks[v] = 0;
#else
       blocks[v] = (holder[v] != 0 -> L : 0);
#endif
#ifdef SELF
       if
       :: v == 0 -> gone[0] = true; stopCounting(0); v = 0; if :: holder[v] == 1 -> blocks[v] = 0 :: else fi
       :: else
       fi;
#endif
       c = 0; m = 0; v = 0; t = 0 }
#endif
  od
}
